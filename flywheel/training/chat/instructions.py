"""Instructions that should stay in force over a whole conversation (Llama 2, §3.3).

The paper's kinds are hobbies, a language and a public figure to act as. Checkable ones are
added: about these a program can say whether a reply keeps them, so that whether an instruction
holds after twenty turns can be measured without a judge. Some checkable ones are kept out of
training: they show whether the model learnt to keep instructions, or these instructions.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """full, short: two wordings, of which training uses the short one half of the time.

    kept: whether a reply keeps it; None: no program can say.
    mended: the reply, changed so that it keeps the instruction; None: no simple way.
    """

    name: str
    full: str
    short: str
    kept: Callable[[str], bool] | None = None
    mended: Callable[[str], str] | None = None


HOBBIES = (
    "bird-watching", "baking", "chess", "gardening", "hiking", "knitting", "pottery", "sailing",
    "stargazing", "swimming", "playing the cello", "collecting stamps", "restoring clocks",
    "writing letters",
)  # fmt: skip
LANGUAGES = ("French", "German", "Spanish", "Italian", "Portuguese", "Dutch")
FIGURES = (
    "Marie Curie", "Leonardo da Vinci", "Cleopatra", "Charles Darwin", "Ada Lovelace",
    "Marco Polo", "Hypatia", "Wolfgang Amadeus Mozart", "Amelia Earhart", "Confucius",
)  # fmt: skip
# Many words, so that a model learns to copy the one it is told, not these.
LAST_WORDS = (
    "ahoy", "indeed", "cheers", "onward", "voilà", "roger", "amen", "farewell", "pickle", "thunder",
    "bravo", "marble", "cactus", "sunrise", "okay", "velvet", "trumpet", "compass", "peanut",
    "goodbye", "umbrella", "penguin", "rocket", "honey", "gravity", "banjo", "lantern", "whatever",
    "tomorrow", "biscuit", "meadow", "zigzag", "paprika", "harbour", "satellite", "understood",
    "waffle", "eureka", "pumpkin", "silence",
)  # fmt: skip
FIRST_WORDS = (
    "Certainly, friend:", "Listen:", "Dear reader,", "Aha!", "In short:", "Gather round:",
    "Well, well,", "Dispatch one:", "My answer:", "Oh boy,", "Attention please:", "Here we go:",
    "Honestly,", "Breaking news:", "Note to all:", "As the wise say:", "Beep boop.", "Between us,",
    "Once upon a time,", "Lesson one:", "Surely,", "Hear me out:", "From the tower:",
    "Ladies first:", "Hmm, hmm.", "Report follows:", "To be clear:", "Yes, chef!", "Look here,",
    "Radio check:",
)  # fmt: skip
UNSEEN_LAST = ("bingo", "lighthouse", "hooray", "cucumber", "always", "violin")
UNSEEN_FIRST = ("Captain's log:", "Good news:", "Fun fact:", "Roll the drums:", "Frankly,")


def plain() -> list[Instruction]:
    """The paper's kinds, which no program here can check."""
    hobbies = [
        Instruction(f"hobby {h}", f"You love {h}, and it shows in what you say.", f"Hobby: {h}.")
        for h in HOBBIES
    ]
    languages = [
        Instruction(f"language {x}", f"Always answer in {x}.", f"Language: {x}.") for x in LANGUAGES
    ]
    figures = [
        Instruction(f"figure {x}", f"Act as {x} would, in all that you say.", f"Figure: {x}.")
        for x in FIGURES
    ]
    return [*hobbies, *languages, *figures]


def ends_with(word: str) -> Instruction:
    def kept(reply: str) -> bool:
        return re.sub(r"\W+$", "", reply).lower().endswith(word.lower())

    def mended(reply: str) -> str:
        return reply if kept(reply) else f"{reply.rstrip()} {word.capitalize()}!"

    full = f'End every reply with the word "{word}".'
    return Instruction(f"ends with {word}", full, f"Last word: {word}.", kept, mended)


def begins_with(words: str) -> Instruction:
    def kept(reply: str) -> bool:
        return reply.lstrip("\"'*_ \n").lower().startswith(words.lower())

    def mended(reply: str) -> str:
        return reply if kept(reply) else f"{words} {reply.lstrip()}"

    full = f'Begin every reply with "{words}"'
    return Instruction(f"begins with {words}", full, f"First words: {words}", kept, mended)


def _small_letters() -> Instruction:
    return Instruction(
        "small letters",
        "Write in small letters only, never a capital.",
        "Letters: small.",
        lambda reply: any(c.isalpha() for c in reply) and reply == reply.lower(),
        str.lower,
    )


def _capitals() -> Instruction:
    return Instruction(
        "capitals",
        "Write everything in capital letters.",
        "Letters: capital.",
        lambda reply: any(c.isalpha() for c in reply) and reply == reply.upper(),
        str.upper,
    )


def _brackets() -> Instruction:
    return Instruction(
        "square brackets",
        "Put each whole reply into square brackets.",
        "Frame: square brackets.",
        lambda reply: reply.strip().startswith("[") and reply.strip().endswith("]"),
        lambda reply: f"[{reply.strip()}]",
    )


def trained() -> list[Instruction]:
    """Checkable instructions that training may use."""
    words = [*map(ends_with, LAST_WORDS), *map(begins_with, FIRST_WORDS)]
    return [*words, _small_letters(), _capitals()]


def unseen() -> list[Instruction]:
    """Checkable instructions that no training may use: new words, and a kind of its own."""
    return [*map(ends_with, UNSEEN_LAST), *map(begins_with, UNSEEN_FIRST), _brackets()]


def combined(chance: random.Random, pool: Sequence[Instruction], most: int) -> list[Instruction]:
    """One to `most` instructions, no two of one kind: they could contradict each other."""
    wanted = chance.randint(1, most)
    chosen: list[Instruction] = []
    for candidate in chance.sample(list(pool), len(pool)):
        if len(chosen) == wanted:
            break
        if all(_kind(candidate) != _kind(other) for other in chosen):
            chosen.append(candidate)
    return chosen


def written(chance: random.Random, chosen: Sequence[Instruction]) -> str:
    """Their words: half of the time all of them short."""
    short = chance.random() < 0.5
    return " ".join(i.short if short else i.full for i in chosen)


def _kind(instruction: Instruction) -> str:
    first = instruction.name.split()[0]
    return "letters" if first in ("small", "capitals") else first
