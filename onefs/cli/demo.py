"""``onefs demo``: the embedded laboratory (Alyx and file server inside onefs) without a mount."""

from __future__ import annotations

from pathlib import Path

import click

from onefs.cli.usage_errors import UsageGroup


@click.group(cls=UsageGroup)
def demo() -> None:
    """The embedded laboratory: an Alyx and a file server that need no account."""


@demo.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Serve this folder (lab/Subjects/subject/date/number/...) instead of synthetic data.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65534),
    default=0,
    metavar="N",
    help="Port of Alyx or the bucket; the file server uses the next. Default 0: any free ports.",
)
@click.option(
    "--sessions", type=click.IntRange(min=1), metavar="N", help="Grow the database to N sessions."
)
@click.option(
    "--datasets",
    type=click.IntRange(min=1),
    metavar="M",
    help="Datasets in each session that --sessions adds.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    metavar="BYTES_PER_S",
    help="Limit of each data connection, in bytes a second.",
)
@click.option(
    "--latency",
    "latency_ms",
    type=click.FloatRange(min=0),
    default=0,
    metavar="MS",
    help="Wait this many milliseconds before each answer.",
)
@click.option(
    "--access-log",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append one JSON line for each request: server, method, path, range, status, bytes.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="ONEFS_STATE_DIR",
    metavar="DIR",
    help="Where the md5 sums and passwords of --data are saved.",
)
@click.option(
    "--as-public",
    is_flag=True,
    help="Serve a public S3 bucket and a file server without passwords, and no Alyx.",
)
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
def serve(**options: object) -> None:
    """Run the servers of the embedded laboratory until Ctrl-C.

    Prints one JSON line when both servers are ready: alyx_url, data_url, username, password,
    data_username and data_password. With --as-public: bucket_url and data_url.
    """
    from onefs.demo import missing_library

    try:
        from onefs.demo.servers import ServeOptions, run
    except ModuleNotFoundError as error:
        raise missing_library(error) from error
    run(ServeOptions(**options))  # type: ignore[arg-type]
