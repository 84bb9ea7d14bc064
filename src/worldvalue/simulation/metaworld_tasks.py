"""The fifty tasks of Meta-World in words, and the ten that are never trained on."""

from __future__ import annotations

from collections.abc import Mapping

INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "assembly": ("put the ring onto the peg", "assemble the ring and the peg"),
    "basketball": ("dunk the basketball into the hoop", "put the ball through the hoop"),
    "bin-picking": ("move the cube into the other bin", "pick the cube and drop it in the blue bin"),
    "box-close": ("close the box with its lid", "put the lid onto the box"),
    "button-press-topdown": ("press the button from above", "push the button down"),
    "button-press-topdown-wall": (
        "press the button behind the wall from above",
        "reach over the wall, push the button down",
    ),
    "button-press": ("press the button", "push the button in"),
    "button-press-wall": ("press the button behind the wall", "go around the wall and push the button in"),
    "coffee-button": ("start the coffee machine", "press the button of the coffee machine"),
    "coffee-pull": ("pull the mug away from the coffee machine", "take the mug from the coffee machine"),
    "coffee-push": ("push the mug under the coffee machine", "put the mug under the coffee machine"),
    "dial-turn": ("turn the dial", "rotate the dial"),
    "disassemble": ("take the ring off the peg", "lift the ring from the peg"),
    "door-close": ("close the door", "push the door shut"),
    "door-lock": ("lock the door", "turn the lock of the door down"),
    "door-open": ("open the door", "pull the door open"),
    "door-unlock": ("unlock the door", "turn the lock of the door back"),
    "drawer-close": ("close the drawer", "push the drawer in"),
    "drawer-open": ("open the drawer", "pull the drawer out"),
    "faucet-close": ("close the faucet", "turn the faucet off"),
    "faucet-open": ("open the faucet", "turn the faucet on"),
    "hammer": ("hammer the nail into the wall", "hit the nail with the hammer"),
    "hand-insert": ("put the block into the hole", "insert the gripper with the block into the hole"),
    "handle-press-side": ("press the handle down from the side", "push the handle down sideways"),
    "handle-press": ("press the handle down", "push the handle down"),
    "handle-pull": ("pull the handle up", "lift the handle"),
    "handle-pull-side": ("pull the handle up from the side", "lift the handle sideways"),
    "peg-insert-side": ("insert the peg into the hole in the side", "put the peg sideways into the hole"),
    "lever-pull": ("pull the lever up", "raise the lever"),
    "peg-unplug-side": ("unplug the peg", "pull the peg out sideways"),
    "pick-out-of-hole": ("pick the block out of the hole", "lift the block from the hole"),
    "pick-place": ("pick up the puck and place it at the goal", "carry the puck to the goal"),
    "pick-place-wall": ("pick up the puck and place it behind the wall", "carry the puck over the wall to the goal"),
    "plate-slide-back-side": (
        "slide the plate out of the cabinet sideways",
        "pull the plate sideways from the cabinet",
    ),
    "plate-slide-back": ("slide the plate out of the cabinet", "pull the plate back from the cabinet"),
    "plate-slide-side": ("slide the plate into the cabinet sideways", "push the plate sideways into the cabinet"),
    "plate-slide": ("slide the plate into the cabinet", "push the plate into the cabinet"),
    "reach": ("reach the goal", "move the gripper to the goal"),
    "reach-wall": ("reach the goal behind the wall", "move the gripper over the wall to the goal"),
    "push-back": ("pull the puck back to the goal", "push the puck backwards to the goal"),
    "push": ("push the puck to the goal", "slide the puck to the goal"),
    "push-wall": ("push the puck around the wall to the goal", "slide the puck past the wall to the goal"),
    "shelf-place": ("place the puck on the shelf", "put the puck onto the shelf"),
    "soccer": ("kick the ball into the goal", "push the soccer ball into the goal"),
    "stick-pull": ("pull the box with the stick", "grasp the stick and pull the box with it"),
    "stick-push": ("push the box with the stick", "grasp the stick and push the box with it"),
    "sweep-into": ("sweep the puck into the hole", "push the puck into the hole"),
    "sweep": ("sweep the puck off the table", "push the puck off the table"),
    "window-close": ("close the window", "slide the window shut"),
    "window-open": ("open the window", "slide the window open"),
}
"""By the name that Meta-World gives a task, without its version: paraphrases of at most 64 bytes."""

UNSEEN = tuple(list(INSTRUCTIONS)[4::5])
"""Every fifth task: chosen by nothing but its place in the list."""
SEEN = tuple(task for task in INSTRUCTIONS if task not in UNSEEN)
