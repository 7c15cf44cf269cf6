"""The command `bin/migrate` (contract, section 9)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from system.migration.adapters import dumps
from system.migration.adapters.progress import shown_on
from system.migration.adapters.target_database import Outcome, Run
from system.migration.bootstrap import Databases, databases
from system.migration.domain.entities import SERVICES
from system.migration.domain.errors import MigrationFailed
from system.migration.entrypoints import texts
from system.migration.service.exporting import export
from system.migration.service.importing import import_rows
from system.migration.service.rolling_back import imported, roll_back
from system.migration.service.standing import Standing, standings
from system.migration.service.validating import Compared, validate
from system.platform.config.faults import ConfigurationError

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 130

_FOLDER: Final = "migration-data"
_LISTED: Final = 20


class _Parser(argparse.ArgumentParser):
    """Says what is wrong, and where to read what is right."""

    def error(self, message: str) -> Any:
        self.exit(WRONG_USAGE, f"{self.prog}: {message}\nTry `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = _Parser(
        prog="bin/migrate",
        description="Moves the shared legacy database into the databases of the four services.",
        epilog=texts.OVERVIEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace, Databases], int], short: str, long: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=short,
            description=short[0].upper() + short[1:] + ".",
            epilog=long,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    def folder(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--dir", metavar="D", type=Path, default=Path(_FOLDER), help=f"folder ({_FOLDER})"
        )

    def service(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "service",
            nargs="?",
            choices=SERVICES,
            metavar="SERVICE",
            help=f"{', '.join(SERVICES)}; all of them if none is named",
        )

    backup = command("backup", _backup, "dump the legacy and the new databases", texts.BACKUP)
    folder(backup)
    exporting = command("export", _export, "write the legacy rows to data files", texts.EXPORT)
    service(exporting)
    folder(exporting)
    importing = command("import", _import, "fill the new databases", texts.IMPORT)
    service(importing)
    folder(importing)
    importing.add_argument("--dry-run", action="store_true", help="everything but the commit")
    importing.add_argument("--no-backup", action="store_true", help="do without a backup of today")
    validating = command("validate", _validate, "compare data files and databases", texts.VALIDATE)
    service(validating)
    folder(validating)
    validating.add_argument("--json", action="store_true", help="answer with one JSON document")
    rolling = command("rollback", _rollback, "remove what the import put in", texts.ROLLBACK)
    rolling.add_argument("service", choices=SERVICES, metavar="SERVICE", help=", ".join(SERVICES))
    rolling.add_argument("--yes", action="store_true", help="do not ask")
    status = command("status", _status, "say how far each service is", texts.STATUS)
    folder(status)
    return made


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Run the command; return its exit code (R0.17)."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else WRONG_USAGE
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(options.run(options, databases(environ)))
    except ConfigurationError as error:
        _say(f"migrate {options.command}: {error}\n`bin/migrate --help` explains the variables")
        return WRONG_USAGE
    except MigrationFailed as error:
        _say(f"migrate {options.command}: {error}")
        return FAILED
    except KeyboardInterrupt:
        _say(f"migrate {options.command}: interrupted; what was not committed was undone")
        return INTERRUPTED


def _backup(options: argparse.Namespace, known: Databases) -> int:
    addresses = [known.need_legacy(), *known.need_targets().values()]
    made = dumps.make(options.dir, addresses, shown_on())
    for name, place in made.databases.items():
        print(f"{made.folder / f'{name}.dump'}  {place}")
    return DONE


def _export(options: argparse.Namespace, known: Databases) -> int:
    counts = export(_chosen(options), options.dir, known.need_legacy(), shown_on())
    for service, rows in counts.items():
        listed = ", ".join(f"{title} {count}" for title, count in rows.items())
        print(f"{options.dir / f'{service}-data.json'}: {listed}")
    return DONE


def _import(options: argparse.Namespace, known: Databases) -> int:
    services = _chosen(options)
    targets = known.need_targets(services)
    if not (options.dry_run or options.no_backup):
        wanted = [*([known.legacy] if known.legacy else []), *targets.values()]
        dumps.require_of_today(options.dir, wanted)
    outcomes = import_rows(services, options.dir, targets, shown_on(), dry_run=options.dry_run)
    if options.dry_run:
        print("dry run: nothing was changed; an import would do this")
    rows: list[tuple[str, ...]] = [("", "IMPORTED", "UNCHANGED", "DIFFERENT", "DELETED SINCE")]
    rows += [
        (one.title, *map(str, (one.imported, one.unchanged, len(one.different), len(one.gone))))
        for one in outcomes
    ]
    _print_table(rows)
    return FAILED if _report_left(outcomes) else DONE


def _report_left(outcomes: list[Outcome]) -> bool:
    """Name the rows that were left as they are; returns whether there are any."""
    left = [one for one in outcomes if one.different or one.gone]
    for one in left:
        if one.different:
            _say(
                f"{one.title}: {len(one.different)} are there with other content and stay as they "
                f"are: {_some(one.different)}"
            )
        if one.gone:
            _say(
                f"{one.title}: {len(one.gone)} were imported before and deleted since, and are not "
                f"brought back: {_some(one.gone)}"
            )
    if left:
        _say("to have them as in the legacy database: roll back, then import again")
    return bool(left)


def _validate(options: argparse.Namespace, known: Databases) -> int:
    services = _chosen(options)
    compared = validate(services, options.dir, known.need_targets(services), shown_on())
    agrees = all(one.agrees for one in compared)
    if options.json:
        document = {"valid": agrees, "entities": [_as_json(one) for one in compared]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return DONE if agrees else FAILED
    rows: list[tuple[str, ...]] = [("", "EXPECTED", "FOUND", "DIFFERENT", "")]
    rows += [
        (
            one.title,
            str(one.expected),
            str(one.found),
            str(one.differing),
            "ok" if one.agrees else "DIFFERS",
        )
        for one in compared
    ]
    _print_table(rows)
    if not agrees:
        _say("the databases do not agree with the data files:")
    for one in compared:
        for difference in one.differences[:_LISTED]:
            _say(f"{one.title} {difference.row_id}: {difference.problem}")
        if one.differing > _LISTED:
            _say(f"{one.title}: {one.differing - _LISTED} more; --json lists the first 1,000")
    return DONE if agrees else FAILED


def _as_json(one: Compared) -> dict[str, Any]:
    return {
        "service": one.service,
        "entity": one.title,
        "expected": one.expected,
        "found": one.found,
        "different": one.differing,
        "valid": one.agrees,
        "ids": [difference.row_id for difference in one.differences],
        "differences": [
            {"id": difference.row_id, "problem": difference.problem}
            for difference in one.differences
        ],
    }


def _rollback(options: argparse.Namespace, known: Databases) -> int:
    target = known.need_targets((options.service,))[options.service]
    there = imported(target)
    if not there:
        print(f"nothing of {target.name} was imported, so there is nothing to remove")
        return DONE
    listed = ", ".join(f"{count} {table}" for table, count in there.items())
    if not options.yes:
        print(f"This removes what the import put into {target.name} ({target.shown}): {listed}.")
        print("Type yes to go on: ", end="", flush=True)
        if sys.stdin.readline().strip().lower() != "yes":
            print("nothing was done")
            return DONE
    removed = roll_back(options.service, target, shown_on())
    print("removed: " + ", ".join(f"{count} {table}" for table, count in removed.items()))
    return DONE


def _status(options: argparse.Namespace, known: Databases) -> int:
    found = standings(options.dir, known.need_targets())
    backup = dumps.newest(options.dir)
    print(f"backup     {f'{backup.created_at}  {backup.folder}' if backup else 'none'}")
    for one in found:
        _print_standing(one)
    return FAILED if any(one.problem for one in found) else DONE


def _print_standing(one: Standing) -> None:
    print(one.service)
    exported = "no"
    if one.exported:
        exported = f"{one.exported.exported_at}  {_counts(one.exported.counts)}"
    print(f"  exported   {exported}")
    print(f"  imported   {_run(one.imported, one.rows, 'some rows were left as they were')}")
    validated = _run(one.validated, one.validated.counts if one.validated else {}, "does not agree")
    if one.imported and one.validated and one.validated.at < one.imported.at:
        validated += "  (before the last import)"
    print(f"  validated  {validated}")
    if one.problem:
        _say(one.problem)


def _run(run: Run | None, counts: Mapping[str, int], otherwise: str) -> str:
    if run is None:
        return "no"
    return f"{run.at}  {_counts(counts)}" + ("" if run.good else f"  ({otherwise})")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"


def _chosen(options: argparse.Namespace) -> tuple[str, ...]:
    return (options.service,) if options.service else SERVICES


def _some(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:_LISTED]) + (f" and {len(ids) - _LISTED} more" if ids[_LISTED:] else "")


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
