"""The command line: `dynaside serve | streams | demo | check-config | wait-ready`.

Each command imports its parts only when it runs, so that `wait-ready`, a health check, starts in
milliseconds. Exit codes: 0 done, 1 not ready, 2 something for the operator to correct.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from proxy.configuration.flags import DEMO_FLAGS, FLAGS
from proxy.core.errors import ProxyError, SettingsInvalid
from proxy.version import VERSION

EXIT_OPERATOR: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code; errors are lines on standard error."""
    options = _parser().parse_args(arguments)
    if not __debug__:
        sys.stderr.write("dynaside: refuses python -O: its assertions guard the cache\n")
        return EXIT_OPERATOR
    return exit_code(lambda: options.command(options))


def exit_code(command: Callable[[], int]) -> int:
    """Run something and return its exit code; what the operator can correct becomes lines."""
    try:
        return command()
    except SettingsInvalid as error:
        for problem in error.problems:
            sys.stderr.write(f"dynaside: {problem}\n")
        return EXIT_OPERATOR
    except (ProxyError, OSError) as error:
        sys.stderr.write(f"dynaside: {error}\n")
        return EXIT_OPERATOR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dynaside",
        description="Read-through caching sidecar for Amazon DynamoDB.",
        allow_abbrev=False,  # a later flag could change what an abbreviation means
    )
    parser.add_argument("--version", action="version", version=f"dynaside {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", allow_abbrev=False, help="run the proxy")
    serve.set_defaults(command=_serve)
    check = commands.add_parser(
        "check-config", allow_abbrev=False, help="list every problem of a configuration"
    )
    check.set_defaults(command=_check_config)
    check.add_argument(
        "--print", action="store_true", help="show the settings in effect and their sources"
    )
    streams = commands.add_parser(
        "streams",
        allow_abbrev=False,
        help="read DynamoDB Streams without serving, or see to records that were parked",
    )
    streams.set_defaults(command=_streams)
    streams.add_argument(
        "action",
        nargs="?",
        choices=("read", "parked", "replay"),
        default="read",
        help="read until stopped; list parked records as JSON; apply them once more",
    )
    streams.add_argument("--table", metavar="NAME", help="of one table only (parked, replay)")
    for command in (serve, check, streams):
        command.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
        _add_setting_flags(command, FLAGS)

    demo = commands.add_parser(
        "demo", allow_abbrev=False, help="run with an embedded store and DynamoDB"
    )
    demo.set_defaults(command=_demo)
    _add_setting_flags(demo, DEMO_FLAGS.values())

    wait = commands.add_parser(
        "wait-ready", allow_abbrev=False, help="wait until a proxy is ready: exit code 0 or 1"
    )
    wait.set_defaults(command=_wait_ready)
    wait.add_argument("--url", default="http://127.0.0.1:8112", help="the ops listener")
    wait.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds to wait")
    return parser


def _add_setting_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    for name in names:
        flag = FLAGS[name]
        parser.add_argument(
            flag.name, dest=name, metavar=flag.placeholder, help=f"{flag.meaning} ({name})"
        )


def _given_flags(options: argparse.Namespace) -> dict[str, str]:
    """Return the settings given by flag, by dotted name; an empty text counts as not given."""
    return {name: given for name, given in vars(options).items() if name in FLAGS and given}


def _serve(options: argparse.Namespace) -> int:
    load_settings = import_module("proxy.settings").load_settings
    settings = load_settings(flags=_given_flags(options), config_path=options.config)
    runner = import_module("proxy.supervisor" if settings.workers > 1 else "proxy.app")
    return int(runner.run(settings))


def _streams(options: argparse.Namespace) -> int:
    load_settings = import_module("proxy.settings").load_settings
    settings = load_settings(flags=_given_flags(options), config_path=options.config)
    if options.action == "read":
        return int(import_module("proxy.stream_app").run(settings))
    parked = import_module("proxy.parked")
    act = parked.show if options.action == "parked" else parked.replay
    return int(act(settings, options.table))


def _check_config(options: argparse.Namespace) -> int:
    check_config = import_module("proxy.check_config").check_config
    return int(
        check_config(
            flags=_given_flags(options),
            config_path=options.config,
            print_effective=options.print,
        )
    )


def _demo(options: argparse.Namespace) -> int:
    given = _given_flags(options)
    chosen = {argument: given.get(name) for argument, name in DEMO_FLAGS.items()}
    return int(import_module("proxy.demo").run_demo(**chosen))


def _wait_ready(options: argparse.Namespace) -> int:
    return int(import_module("proxy.wait_ready").wait_ready(options.url, options.timeout))


if __name__ == "__main__":
    sys.exit(main())
