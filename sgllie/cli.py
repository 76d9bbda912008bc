"""`sgllie <command>`: the command line, made from the settings of each job."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

import tyro

from sgllie.storage import StorageError, UsageError

USAGE = 2


def enhance(arguments: Sequence[str]) -> int:
    """Brighten every image of a folder, bucket or list."""
    from sgllie.settings import EnhanceSettings

    settings = tyro.cli(EnhanceSettings, args=arguments, prog="sgllie enhance")
    from sgllie.distributed.enhance import enhance as job

    return job(settings)


def train(arguments: Sequence[str]) -> int:
    """Train a network on photographs, without references or labels."""
    from sgllie.training.settings import parse

    settings = parse(arguments)
    from sgllie.distributed.train import train as job

    return job(settings)


def video(arguments: Sequence[str]) -> int:
    """Brighten videos without flicker."""
    from sgllie.video.settings import VideoSettings

    settings = tyro.cli(VideoSettings, args=arguments, prog="sgllie video")
    from sgllie.distributed.video import video as job

    return job(settings)


def evaluate(arguments: Sequence[str]) -> int:
    """Measure images before and after, or what a detector or segmenter made of them."""
    from sgllie.evaluation.settings import EvaluateSettings

    settings = tyro.cli(EvaluateSettings, args=arguments, prog="sgllie evaluate")
    from sgllie.distributed.evaluate import evaluate as job

    return job(settings)


def compare(arguments: Sequence[str]) -> int:
    """Run several methods on the same images, and measure each."""
    from sgllie.evaluation.compare_settings import CompareSettings

    settings = tyro.cli(CompareSettings, args=arguments, prog="sgllie compare")
    from sgllie.distributed.compare import compare as job

    return job(settings)


def weights(arguments: Sequence[str]) -> int:
    """Import published weights, or show what a weights file holds."""
    from sgllie.weights_command import run

    return run(arguments)


def report(arguments: Sequence[str]) -> int:
    """Show what a run did: one HTML file with pictures before and after."""
    from sgllie.report import ReportSettings, write_report

    settings = tyro.cli(ReportSettings, args=arguments, prog="sgllie report")
    sys.stdout.write(f"Report in {write_report(settings)}\n")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "enhance": enhance,
    "video": video,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "report": report,
    "weights": weights,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 2 for wrong usage, or what the command's job says."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        sys.stdout.write(f"sgllie {version('sgllie')}\n")
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:10} {command.__doc__}" for name, command in COMMANDS.items()]
        sys.stdout.write("\n".join(["usage: sgllie COMMAND ... (see sgllie COMMAND --help)", "", *lines]) + "\n")
        return 0 if arguments[:1] in (["--help"], ["-h"]) else USAGE
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except UsageError as error:
        sys.stderr.write(f"sgllie {arguments[0]}: {error}\n")
        return USAGE
    except StorageError as error:
        sys.stderr.write(f"sgllie {arguments[0]}: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"sgllie {arguments[0]}: interrupted; the same command goes on from what is done\n")
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough, as in `sgllie enhance --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
