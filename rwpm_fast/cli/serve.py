"""The sub-command ``serve``."""

from __future__ import annotations

import argparse
import sys
from threading import Timer

from ..io.extras import require_extras
from .loading import load_scorer
from .options import add_network_options, add_walk_options

SUMMARY = "Serve a local page: drop a photo, move the walk's settings, and see the map and every pixel's neighbors."
HOST, PORT = "127.0.0.1", 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on (default: %(default)s, this machine alone; 0.0.0.0 for the whole network)",
    )
    parser.add_argument("--port", type=int, default=PORT, help="port, 0: any that is free (default: %(default)s)")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="stop after this time (default: at Ctrl+C)")
    parser.add_argument("--score", help="anomaly score (default: the one of the network's authors)")
    add_network_options(parser)
    add_walk_options(parser)
    parser.set_defaults(method=None)


def run(options: argparse.Namespace) -> int:
    require_extras("serve", "PIL.Image", "starlette.applications", "uvicorn")
    from ..serve.app import PageServer
    from ..serve.guard import is_loopback
    from ..serve.limits import Limits
    from ..serve.server import listen, make_server

    if options.walk_values == "none":
        raise ValueError("--walk-values: expected what walks, since the page shows what the walk does, got 'none'")
    if options.stop_after is not None and not options.stop_after > 0:
        raise ValueError(f"--stop-after: expected a time above 0, got {options.stop_after:g}")
    limits = Limits()
    with listen(options.host, options.port) as listener:
        scorer = load_scorer(options, options.score)
        server = make_server(PageServer(scorer, options.host, limits).app, limits)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        if not is_loopback(options.host):
            print(
                f"warning: --host {options.host}: whoever reaches this machine can use the page, without a password "
                "and unencrypted; leave --host out to keep it to this machine",
                file=sys.stderr,
            )
        print(f"http://{shown}:{listener.getsockname()[1]}/  (Ctrl+C ends it)", flush=True)
        if options.stop_after is not None:
            timer = Timer(options.stop_after, lambda: setattr(server, "should_exit", True))
            timer.daemon = True
            timer.start()
        server.run(sockets=[listener])
    return 0
