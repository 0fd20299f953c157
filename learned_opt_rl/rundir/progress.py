"""Progress of long work: a bar in a terminal, plain lines elsewhere.

The display never stops the work: text that a stream does not accept is dropped.
"""

import contextlib
import contextvars
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TextIO, cast

_SHOWN = contextvars.ContextVar("shown", default=True)


@contextlib.contextmanager
def showing(progress: bool) -> Iterator[None]:
    """Hide progress on standard error within the context, unless ``progress``."""
    token = _SHOWN.set(progress and _SHOWN.get())
    try:
        yield
    finally:
        _SHOWN.reset(token)


def output(stream: TextIO | None = None) -> TextIO:
    """Return a stream that never fails, over a stream or standard error.

    Text that cannot be written is dropped, for example into a closed pipe, onto a full
    disk, or in a process without standard error. An interrupt still passes.

    Example:
        >>> import io
        >>> lost = io.StringIO()
        >>> lost.close()
        >>> print("nobody reads this", file=output(lost))
    """
    if stream is None and _SHOWN.get():
        stream = sys.stderr
    return cast(TextIO, stream if isinstance(stream, Output) else Output(stream))


class Output:
    """A text stream over another one, or over none; see `output`.

    ``error`` is the last error of the stream, None if all text was written.
    """

    # `copy` asks an object without attributes for its methods, through `__getattr__`.
    _stream: TextIO | None = None

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.error: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write a text, with escapes for letters that the encoding lacks."""
        if self._stream is not None:
            with self._keeping_errors():
                _write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        if self._stream is not None:
            with self._keeping_errors():
                self._stream.flush()

    @property
    def encoding(self) -> str:
        """The encoding of the stream, utf-8 without one, since libraries ask for it."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream is closed.
            self.error = error


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError as error:
        escaped = text.encode(error.encoding, "backslashreplace")
        stream.write(escaped.decode(error.encoding))


class Progress:
    """Show how far long work is.

    A bar of rich, if rich is installed and the stream is a terminal; lines otherwise.
    With ``percent``, show percentages and print about ten lines; otherwise count the
    steps and print a line for each. ``done`` steps were done before.
    """

    def __init__(
        self,
        label: str,
        total: int,
        stream: TextIO | None = None,
        *,
        done: int = 0,
        percent: bool = False,
    ) -> None:
        self.total = total
        self._label, self._stream = label, output(stream)
        self._percent, self._printed = percent, 0
        self._bar = _bar(self._stream, percent)
        if self._bar is not None:
            self._bar.add_task(label, total=total, completed=done, shown="")
            self._bar.start()

    def show(self, done: int, text: str) -> None:
        """Show that so many steps are done, with a short text."""
        if self._bar is not None:
            # The bar shares a line of 80 characters with the text.
            shown = " ".join(text.split())
            self._bar.update(self._bar.task_ids[0], completed=done, shown=shown)
            return
        due = done * 10 // self.total if self._percent else done
        if due == self._printed:
            return
        self._printed = due
        place = f" {done / self.total:.0%}" if self._percent else f"{done}/{self.total}"
        self._stream.write(f"{self._label} {place}  {text}\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds, for example ``1:02:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _bar(stream: TextIO, percent: bool) -> Any:
    if not stream.isatty():
        return None
    try:
        from rich import console, progress, table
    except ImportError:
        return None
    # The name gives way in a narrow terminal; the time left is always there.
    name = progress.TextColumn(
        "{task.description}", table_column=table.Column(ratio=3, no_wrap=True)
    )
    text = progress.TextColumn(
        "{task.fields[shown]}", table_column=table.Column(ratio=2, no_wrap=True)
    )
    bar = progress.BarColumn(bar_width=5)
    if percent:
        share, left = progress.TaskProgressColumn(), progress.TimeRemainingColumn()
        columns = [name, bar, share, left, text]
    else:
        columns = [progress.MofNCompleteColumn(), bar, text]
    return progress.Progress(
        *columns, console=console.Console(file=stream), expand=percent
    )
