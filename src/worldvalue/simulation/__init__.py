"""Simulated episodes: robosuite tasks, a scripted oracle that also hesitates, retries and fails, collection."""
