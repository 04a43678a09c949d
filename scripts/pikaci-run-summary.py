#!/usr/bin/env python3
"""Summary of a run for a CI system: markdown, outputs of a step, and the files worth keeping."""

import argparse
import json
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path

DOCUMENTS = ("run.json", "plan.json", "prepared-outputs.json")
LOGS = {"host.log": "host.log", "guest.log": "artifacts/guest.log"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--state-root", type=Path, default=Path(".jerichoci"), metavar="DIR")
    parser.add_argument("--target-id", default="pre-merge-pika-rust", metavar="TARGET")
    parser.add_argument("--run-id", metavar="RUN", help="this run, of whatever target; else the newest of the target")
    parser.add_argument("--min-created-at-exclusive", metavar="TIME", help="only runs that started after this time")
    parser.add_argument("--allow-missing", action="store_true", help="no run is no error: its outputs are empty")
    parser.add_argument("--github-output", type=Path, metavar="FILE", help="append run_id=... and so on")
    parser.add_argument("--markdown-out", type=Path, metavar="FILE", help="else standard output")
    parser.add_argument("--artifact-dir", type=Path, metavar="DIR", help="copy records and logs there")
    return parser.parse_args()


def time(text):
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC")
    return moment


def load(directory):
    """The record in a run directory; nothing when it cannot be read, which is said."""
    path = directory / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        time(run["created_at"])
        return run
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"warning: {path} is left out: {error}", file=sys.stderr)
        return None


def choose(options):
    """Directory and record of the run that is meant; nothing when there is none."""
    runs = options.state_root / "runs"
    if options.run_id is not None:
        # A name and no path: what is copied lies below it.
        if Path(options.run_id).name != options.run_id:
            raise ValueError(f"{options.run_id} is not a run id")
        directories = [runs / options.run_id]
    else:
        directories = [path for path in runs.iterdir() if path.is_dir() and not path.name.startswith(".")] if runs.is_dir() else []
    found = [(directory, run) for directory in directories if (run := load(directory)) is not None]
    if options.run_id is None:
        found = [(directory, run) for directory, run in found if run.get("target_id") == options.target_id]
    if options.min_created_at_exclusive:
        after = time(options.min_created_at_exclusive)
        found = [(directory, run) for directory, run in found if time(run["created_at"]) > after]
    return max(found, key=lambda entry: time(entry[1]["created_at"]), default=None)


def seconds(record, begin):
    if not record.get(begin) or not record.get("finished_at"):
        return None
    return max(0, round((time(record["finished_at"]) - time(record[begin])).total_seconds()))


def cell(value):
    """Text in a table of markdown: one line, nothing of it markup."""
    text = " ".join(str("-" if value is None else value).split())
    for character in "\\`*_|<>[]":
        text = text.replace(character, "\\" + character)
    return text


def markdown(run):
    verdict = run["status"] if not run.get("failure_kind") else f"{run['status']} ({run['failure_kind']})"
    lines = [
        f"## {cell(run.get('target_id') or 'run')}: {cell(verdict)}",
        "",
        f"Run `{run['run_id']}`, {cell(seconds(run, 'created_at'))} s, commit {cell(run.get('git_head'))}",
        "",
    ]
    if run.get("message"):
        lines += [cell(run["message"]), ""]
    if run.get("jobs"):
        lines += ["| job | status | s | message |", "|---|---|---|---|"]
        for job in run["jobs"]:
            row = (job.get("id"), job.get("status"), seconds(job, "started_at"), job.get("message"))
            lines.append("| " + " | ".join(map(cell, row)) + " |")
        lines.append("")
    if run.get("prepare_timings"):
        lines += ["| prepared | ms |", "|---|---|"]
        for timing in run["prepare_timings"]:
            lines.append(f"| {cell(timing.get('node_id'))} | {cell(timing.get('duration_ms'))} |")
        lines.append("")
    return "\n".join(lines)


def copy(directory, run, out):
    """Copies the documents of a run, and the logs of its jobs; what a run does not have is no error."""
    files = {name: name for name in DOCUMENTS}
    for job in run.get("jobs", []):
        if Path(job["id"]).name == job["id"]:
            files |= {f"jobs/{job['id']}/{name}": f"jobs/{job['id']}/{source}" for name, source in LOGS.items()}
    for name, source in files.items():
        origin = directory / source
        if origin.is_file() and not origin.is_symlink():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin, out / name)


def report(path, outputs):
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in outputs.items())


def main():
    options = arguments()
    try:
        chosen = choose(options)
    except ValueError as error:
        sys.exit(f"pikaci-run-summary.py: {error}")
    if chosen is None:
        if not options.allow_missing:
            wanted = options.run_id or f"of {options.target_id}"
            sys.exit(f"pikaci-run-summary.py: there is no run {wanted} in {options.state_root}")
        report(options.github_output, dict.fromkeys(("run_id", "run_status", "run_duration_seconds", "artifact_name"), ""))
        return
    directory, run = chosen
    text = markdown(run)
    if options.markdown_out is None:
        print(text)
    else:
        options.markdown_out.parent.mkdir(parents=True, exist_ok=True)
        options.markdown_out.write_text(text + "\n", encoding="utf-8")
    duration = seconds(run, "created_at")
    report(
        options.github_output,
        {
            "run_id": run["run_id"],
            "run_status": run["status"],
            "run_duration_seconds": "" if duration is None else duration,
            "artifact_name": f"pikaci-run-{run['run_id']}",
        },
    )
    if options.artifact_dir is not None:
        copy(directory, run, options.artifact_dir)


if __name__ == "__main__":
    # The reader of a summary may go away.
    try:
        main()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
