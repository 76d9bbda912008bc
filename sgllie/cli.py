"""`sgllie COMMAND`: the command line, made from the settings of each job.

Each command imports what it needs when it runs: help should not wait for Ray, nor a report for torch.
"""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

import tyro

from sgllie.errors import StorageError, UsageError
from sgllie.exit_codes import OK, STOPPED, USAGE, WITH_FAILURES


def enhance(arguments: Sequence[str]) -> int:
    """Brighten every image of a folder, bucket or list."""
    from sgllie.distributed.executor import RayExecutor
    from sgllie.enhance.run import prepare
    from sgllie.enhance.settings import EnhanceSettings
    from sgllie.runs.job import run_job

    settings = tyro.cli(EnhanceSettings, args=arguments, prog="sgllie enhance")
    return run_job(prepare, settings, RayExecutor(settings))


def video(arguments: Sequence[str]) -> int:
    """Brighten videos without flicker."""
    from sgllie.distributed.executor import RayExecutor
    from sgllie.runs.job import run_job
    from sgllie.video.run import prepare
    from sgllie.video.settings import VideoSettings

    settings = tyro.cli(VideoSettings, args=arguments, prog="sgllie video")
    return run_job(prepare, settings, RayExecutor(settings))


def train(arguments: Sequence[str]) -> int:
    """Train a network on photographs, without references or labels."""
    from sgllie.train.settings import parse

    settings = parse(arguments)
    from sgllie.distributed.train import train as job

    return job(settings)


def evaluate(arguments: Sequence[str]) -> int:
    """Measure images before and after, or what a detector or segmenter made of them."""
    from sgllie.distributed.executor import RayExecutor
    from sgllie.evaluate.run import prepare
    from sgllie.evaluate.settings import EvaluateSettings
    from sgllie.runs.job import InProcess, run_job

    settings = tyro.cli(EvaluateSettings, args=arguments, prog="sgllie evaluate")
    if settings.task == "detection":  # labels and boxes are small
        from sgllie.evaluate.detection import prepare as prepare_detection

        return run_job(prepare_detection, settings, InProcess())
    return run_job(prepare, settings, RayExecutor(settings))


def compare(arguments: Sequence[str]) -> int:
    """Run several methods on the same images, and measure each."""
    from sgllie.compare.run import prepare
    from sgllie.compare.settings import CompareSettings
    from sgllie.distributed.executor import RayExecutor
    from sgllie.runs.job import run_job

    settings = tyro.cli(CompareSettings, args=arguments, prog="sgllie compare")
    return run_job(prepare, settings, RayExecutor(settings))


def weights(arguments: Sequence[str]) -> int:
    """Import published weights, or show what a weights file holds."""
    from sgllie.weights.run import run

    return run(arguments)


def report(arguments: Sequence[str]) -> int:
    """Show what a run did: one HTML file with pictures before and after."""
    from sgllie.report import ReportSettings, write_report
    from sgllie.runs.words import say

    settings = tyro.cli(ReportSettings, args=arguments, prog="sgllie report")
    say(f"Report in {write_report(settings)}")
    return OK


def verify(arguments: Sequence[str]) -> int:
    """Compare the outputs of a run with the hashes in its rows, and repair what is wrong."""
    from sgllie.distributed.executor import RayExecutor
    from sgllie.runs.job import run_job
    from sgllie.runs.words import say
    from sgllie.verify import run
    from sgllie.verify.settings import VerifySettings

    settings = tyro.cli(VerifySettings, args=arguments, prog="sgllie verify")
    finished = run.open_verified(settings)
    findings = run.verify(settings, finished)
    say(findings.describe())
    if not (findings.wrong or findings.lost):
        return OK
    if not settings.repair:
        say(f"To enhance them once more: sgllie verify {shlex.quote(settings.output)} --repair")
        return WITH_FAILURES
    chosen = run.settings_of(finished, settings)
    run.mark_failed(finished, findings)
    return run_job(finished.kind.prepare, chosen, RayExecutor(chosen))


def demo(arguments: Sequence[str]) -> int:
    """Try it on a few photographs in the browser."""
    from sgllie.demo.server import serve
    from sgllie.demo.settings import DemoSettings

    return serve(tyro.cli(DemoSettings, args=arguments, prog="sgllie demo"))


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "enhance": enhance,
    "video": video,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "report": report,
    "verify": verify,
    "weights": weights,
    "demo": demo,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for wrong usage, or what the command's job says."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        sys.stdout.write(f"sgllie {version('sgllie')}\n")
        return OK
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:10} {command.__doc__}" for name, command in COMMANDS.items()]
        sys.stdout.write("\n".join(["usage: sgllie COMMAND ... (see sgllie COMMAND --help)", "", *lines]) + "\n")
        return OK if arguments[:1] in (["--help"], ["-h"]) else USAGE
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except UsageError as error:
        return complain(arguments[0], error, USAGE)
    except StorageError as error:
        return complain(arguments[0], error, STOPPED)
    except KeyboardInterrupt:
        return complain(arguments[0], "interrupted; the same command goes on from what is done", STOPPED)
    except BrokenPipeError:  # whoever reads the output has seen enough, as in `sgllie enhance --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED


def complain(command: str, sentence: object, code: int) -> int:
    """Print what is wrong with a command on standard error; return the exit code."""
    from sgllie.runs.words import printable

    sys.stderr.write(printable(f"sgllie {command}: {sentence}\n"))
    return code
