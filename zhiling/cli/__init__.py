"""The front door: every command, and how errors reach a person. Heavy libraries load inside the commands."""

import errno
import os
import sys
from typing import Annotated

import typer

from zhiling.cli import board, build, doctor, evaluate, publish, release, run, template, train
from zhiling.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ELSEWHERE = {errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
# typer may bring its own click or use the installed one; this is UsageError in both
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
INTERRUPTED = "interrupted; run the same command again to go on"
ANYWHERE = {"-q", "--quiet", "-v", "--verbose", "--debug"}

app = typer.Typer(
    name="zhiling", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.callback()
def _options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Details too.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks, for reporting a fault in zhiling.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """zhiling (指令): labelled corpora to instruction datasets, and what those datasets do to a model."""
    from zhiling import __version__
    from zhiling.console import set_verbosity

    set_verbosity(0 if quiet else 2 if verbose else 1)
    if version:
        print(__version__)
        raise typer.Exit


for group in (build, release, publish, train, evaluate, board, run, doctor):
    group.register(app)
app.add_typer(template.app, name="template")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.tasks_app, name="tasks")


def main() -> None:
    """Run the command line; exit code 0 done, 2 something to mend, 130 interrupted, 1 a fault of ours."""
    sys.exit(run_args(sys.argv[1:]))


def run_args(args: list[str]) -> int:
    """Run one command line and return its exit code."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # zhiling has bars of its own; libraries draw one for every task
    cut = args.index("--") if "--" in args else len(args)
    front = [a for a in args[:cut] if a in ANYWHERE]
    debug = "--debug" in front
    try:
        code = app(front + [a for a in args[:cut] if a not in ANYWHERE] + args[cut:], standalone_mode=False)
        return _say(INTERRUPTED, 130) if code == 130 else code if isinstance(code, int) else 0
    except UserError as error:
        return _say(str(error), 2)
    except USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        if context and type(error).__name__ == "NoArgsIsHelpError":  # `zhiling` alone: its help, and no error
            print(context.get_help(), file=sys.stderr)
            return 2
        where = f" (see '{context.command_path} --help')" if context else ""
        return _say(getattr(error, "format_message", error.__str__)() + where, 2)
    except (KeyboardInterrupt, typer.Abort):
        return _say(INTERRUPTED, 130)
    except BrokenPipeError:
        return 0
    except Exception as error:
        if debug:
            raise
        if said := _in_plain_words(error):
            return _say(said, 2)
        told = f"{type(error).__name__}: {error}"
        return _say(f"{told}. This is a fault in zhiling: run again with --debug and report it", 1)


def _in_plain_words(error: Exception) -> str | None:
    """What to say of an error that is no fault of zhiling's; None where it may be one."""
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if number in FULL or any(os.strerror(code) in str(error) for code in FULL):  # safetensors has an error of its own
        return f"{name or 'output'}: no room left to write; free some and run the same command again"
    if isinstance(error, OSError) and number in ELSEWHERE:
        return f"{name}: {str(error.strerror).lower()}; choose another place"
    if isinstance(error, PermissionError):
        return f"{name}: no permission; choose another place or change its rights"
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "out of memory; ask for less at once, or for a smaller model"
    if isinstance(error, ModuleNotFoundError) and (get := doctor.how_to_get(error.name)):
        return f"{error.name} is not installed; {get} (`zhiling doctor` lists what else is missing)"
    return None


def _say(text: str, code: int) -> int:
    print(f"error: {text}" if code != 130 else text, file=sys.stderr)
    return code
