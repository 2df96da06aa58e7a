"""Errors that a user can act on: what is wrong, where, and the way out."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence


class StateshiftError(ValueError):
    """Something the user can mend. The command line prints its text alone and exits with 2."""


class InputProblems(StateshiftError):
    """All problems of one input at once.

    Parameters
    ----------
    where
        What was read: a file or a command's subject.
    problems
        One sentence each.
    """

    def __init__(self, where: str, problems: Sequence[str]):
        self.where, self.problems = where, list(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{where}: {count}\n{lines}")


@contextlib.contextmanager
def enough_memory(way_out: str) -> Iterator[None]:
    """One sentence where the memory of the machine or of a GPU doesn't suffice.

    Parameters
    ----------
    way_out
        What to try, as the end of a sentence.

    Raises
    ------
    StateshiftError
        It didn't suffice for what was done inside.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise StateshiftError(f"The memory doesn't suffice ({first_line(error).rstrip('.')}): {way_out}.") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy or torch, or what caused it, says that memory could not be had.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")), is_out_of_memory(KeyError("a"))
    (True, False)
    """
    signs = ("out of memory", "not enough memory", "t allocate memory", "Unable to allocate", "STATUS_ALLOC_FAILED")
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or any(sign in str(seen) for sign in signs):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def first_line(error: BaseException) -> str:
    """The first line of what an error says, cut short where it is long; its kind where it says nothing.

    Examples
    --------
    >>> first_line(OSError("no room\\nat all")), first_line(EOFError()), first_line(KeyError("step"))
    ('no room', 'EOFError', "it lacks 'step'")
    """
    if isinstance(error, KeyError) and " " not in str(error):  # a key alone
        return f"it lacks {error}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """Near misses of a name, as the end of a sentence.

    Returns
    -------
    str
        ``" (did you mean `T98G`?)"``, or the first few candidates where none is near.

    Examples
    --------
    >>> suggestion("celltype", ["cell_type", "batch"])
    ' (did you mean `cell_type`?)'
    >>> suggestion("zzz", ["cell_type", "batch"])
    ' (there are: batch, cell_type)'
    """
    names = sorted({str(c) for c in candidates})
    folded = {n.casefold(): n for n in reversed(names)}
    near = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.6)
    if near:
        return f" (did you mean `{folded[near[0]]}`?)"
    if not names:
        return " (there are none)"
    return f" (there are: {some(names)})"


def visible(text: str) -> str:
    """A text for a screen or a log: what would move the cursor, change colours or hide itself is spelt out.

    Examples
    --------
    >>> visible("T98G" + chr(27) + "[2J" + chr(0x200B))
    'T98G\\\\x1b[2J\\\\u200b'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def with_hidden_letters(names: Iterable[str]) -> list[str]:
    """Those of some names that are blank or hold letters which don't show, spelt out and quoted.

    Such a name is another than the one that it reads like, breaks a line, or steers a terminal.

    Examples
    --------
    >>> with_hidden_letters(["A549", "A549" + chr(0x200B), " "])
    ["'A549\\\\u200b'", "' '"]
    """
    return [ascii(name) for name in names if not name.isprintable() or not name.strip()]


def some(names: Iterable[str], most: int = 8) -> str:
    """The first few of many names, and how many more there are.

    Examples
    --------
    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    names = [str(n) for n in names]
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
