"""files.py PORT DIRECTORY: serve the files of a directory over HTTP, and take those that are sent."""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Files(SimpleHTTPRequestHandler):
    """GET, and PUT, whose body is read and forgotten."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()


ThreadingHTTPServer(("", int(sys.argv[1])), partial(Files, directory=sys.argv[2])).serve_forever()
