"""Pretrained parts from diffusers and transformers, and the small streams that join them."""
