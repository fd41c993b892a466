"""The wordings of questions, chains and answers in the synthetic world, by family of facts.

Fields of questions: {x} and {y} are names ("red car"), {color} and {kind} their parts, {side} is left or right,
{action} is what an object does, {t} is a time in seconds. Fields of chains: {0}, {1}, {2} are the shown objects in
order, each written with its frame and position, or with its claim. This module holds texts only. The paper has none.
"""

from __future__ import annotations

from collections.abc import Mapping

VIDEO_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "first": ("Which object appears first?", "Which object is seen before all others?"),
    "last": ("Which object appears last?", "Which object is the last one to come into the picture?"),
    "leaves": ("Which object disappears first?", "Which object leaves before all others?"),
    "stays": ("Which object is still there at the end?", "What can be seen at the very end of the video?"),
    "longest": ("Which object is visible for the longest time?", "Which object stays in the picture longest?"),
    "after": ("Which object is the next to appear after the {x}?", "What is the next to come after the {x}?"),
    "before": ("Which object appears just before the {x}?", "What is the last to come before the {x} does?"),
    "with": ("Which object is visible together with the {x}?", "Which object shares the picture with the {x}?"),
    "already": ("Which object is already there when the {x} appears?", "What does the {x} find there when it comes?"),
    "color": ("What colour is the {kind}?", "Which colour does the {kind} have?"),
    "thing": ("What is the {color} object?", "What kind of object is {color}?"),
    "deed": ("What does the {x} do?", "What happens with the {x} in the video?"),
    "way": ("In which direction does the {x} move?", "Which way does the {x} go?"),
    "meet": ("Beside which object does the {x} stop?", "Which object does the {x} come to stand next to?"),
    "pass": ("Which object does the {x} move past?", "What does the {x} pass on its way?"),
    "swap": ("With which object does the {x} swap places?", "Which object changes places with the {x}?"),
    "side": ("Which object is on the {side} at {t} seconds?", "At {t} seconds, what is on the {side}?"),
    "where": ("Where in the picture is the {x} at {t} seconds?", "At {t} seconds, where is the {x}?"),
    "track": ("Where is the {x}?", "Follow the {x}: where is it?", "Show where the {x} is."),
    "count": ("How many different objects appear in the video?", "How many objects are there in all?"),
    "place": ("Where does the video take place?", "What place does the video show?"),
}

TIME_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "when": (
        "When is the {x} visible?",
        "From when to when can the {x} be seen?",
        "During which part of the video is the {x} in the picture?",
        "Find the time span in which the {x} is there.",
    ),
    "when color": ("When is something {color} in the picture?", "In which time span is there a {color} object?"),
    "when thing": ("When can a {kind} be seen?", "In which time span is a {kind} visible?"),
    "when first": ("When is the object that appears first visible?", "In which time span is the first object seen?"),
    "when last": ("When is the object that appears last visible?", "In which time span is the last object seen?"),
    "when both": ("When are the {x} and the {y} both visible?", "When can the {x} and the {y} be seen together?"),
    "when deed": ("When does the {x} {action}?", "During which time does the {x} {action}?"),
}

IMAGE_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "find": ("Where is the {x}?", "Find the {x} in the picture.", "Give the box of the {x}."),
    "find color": ("Where is the {color} object?", "Which object is {color}, and where is it?"),
    "find thing": ("Where is the {kind}?", "Locate the {kind} in the picture."),
    "furthest": ("Which object is furthest to the {side}?", "Locate the object on the {side} of all others."),
    "largest": ("Which object is the largest, and where is it?", "Locate the largest object."),
    "smallest": ("Which object is the smallest, and where is it?", "Locate the smallest object."),
}

CHAINS: Mapping[str, tuple[str, ...]] = {
    "first": ("The {0} is there first, the {1} comes later.", "I see the {0} before the {1}."),
    "last": ("The {0} is there earlier, the {1} comes last.", "After the {0} comes the {1}, and nothing more."),
    "leaves": ("The {0} is gone after this, the {1} is there later.", "I lose the {0} first and see the {1} later."),
    "stays": ("The {0} is gone after this, the {1} stays to the end.", "After the {0} is gone I still see the {1}."),
    "longest": ("The {0} is there, and much later still the {1}.", "I see the {0} early and the {1} late."),
    "after": ("First the {0} comes, then the {1}.", "After the {0} I see the {1}."),
    "with": ("With the {0} I see the {1}.", "The {0} and the {1} are there at one time."),
    "already": ("When the {0} comes, the {1} is there.", "The {0} is new, the {1} was there before."),
    "color": ("The {kind} is the {0}.", "I see one {kind}, the {0}."),
    "thing": ("What is {color} here is the {0}.", "I see the {0}, nothing else is {color}."),
    "stay": ("First I see the {0}, later the {1}, where it was.", "The {0}, and later the {1}: it has not moved."),
    "move": ("First I see the {0}, later the {1}, further {way}.", "The {0}, and later the {1}: it goes {way}."),
    "meet": ("The {0} comes; then the {1} is beside the {2}.", "After the {0} I see the {1} next to the {2}."),
    "pass": (
        "The {0} is on one side of the {1}, later the {2} on the other.",
        "The {0}, the {1}, and past it the {2}.",
    ),
    "swap": ("The {0} and the {1} change sides: later the {2}.", "First the {0} and the {1}, then the {2} over there."),
    "side": ("The {0} is on the {side}, the {1} is not.", "Of the {0} and the {1} the first is on the {side}."),
    "where": ("I find the {0} {region}.", "There is the {0}, {region}."),
    "track": ("The {0}, then the {1}, at last the {2}.", "First there is the {0}, later the {1}, then the {2}."),
    "count": ("I count {number}: {listed}.", "There are {number}: {listed}."),
    "place": ("The {0} is {place}.", "Around the {0} I see that we are {place}."),
    "when": ("I first see the {0}, and last the {1}.", "The {0} comes; the {1} is the last of it."),
    "when both": ("I see the {0} with the {1}; the {2} is the last of both.", "The {0} and the {1}, at last the {2}."),
    "when deed": ("It begins with the {0} and ends with the {1}.", "It lasts from the {0} to the {1}."),
    "find": ("I see the {0}.", "There is the {0}."),
    "furthest": ("The {0} is further to the {side} than the {1}.", "The {1} is not so far to the {side} as the {0}."),
    "largest": ("The {0} is larger than the {1}.", "The {1} is smaller than the {0}."),
    "smallest": ("The {0} is smaller than the {1}.", "The {1} is larger than the {0}."),
}

# what an object does, by kind of event: finite form, and the form after "does it"
ACTIONS: Mapping[str, tuple[str, str]] = {
    "stay": ("stays in one place", "stay in one place"),
    "left": ("moves to the left", "move to the left"),
    "right": ("moves to the right", "move to the right"),
    "up": ("moves up", "move up"),
    "down": ("moves down", "move down"),
    "meet": ("stops beside the {y}", "stand beside the {y}"),
    "pass": ("moves past the {y}", "move past the {y}"),
    "swap": ("swaps places with the {y}", "swap places with the {y}"),
    "away": ("moves away from the {y}", "move away from the {y}"),
}
WAYS: Mapping[str, str] = {"left": "to the left", "right": "to the right", "up": "up", "down": "down"}
PLACE_ANSWERS: Mapping[str, str] = {"park": "in a park", "beach": "at a beach", "room": "in a room"}
WRONG_PLACES = ("in a street", "on a ship")
NUMBERS = ("one", "two", "three", "four", "five")
