"""Fakes of tensorflow_model_server and docker for the PATH; they answer status requests only.

FAKE_MODE says what the server does: "good", "dies" (with a log), "never" (no version becomes
available), "broken" (a newer version cannot be loaded) or "stubborn" (it ignores SIGTERM).
"""

import sys
from pathlib import Path

_SERVER = f"""#!{sys.executable}
import http.server, json, os, re, signal, sys
flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
mode = os.environ.get("FAKE_MODE", "good")
print("the fake server starts", flush=True)
root = os.environ.get("FAKE_ROOT", "")
names = re.findall('name: "([^"]*)"', open(root + flags["model_config_file"]).read())
for file in ("batching_parameters_file", "monitoring_config_file"):
    open(root + flags[file]).close()
if mode == "dies":
    print("a reason to die", flush=True)
    sys.exit(3)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
polls = 0

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global polls
        polls += 1
        name = self.path.split("/")[3]
        good = {{"error_code": "OK", "error_message": ""}}
        bad = {{"error_code": "UNKNOWN", "error_message": "no weights"}}
        state = "AVAILABLE" if polls > 2 and mode != "never" else "LOADING"
        states = [{{"version": "1", "state": state, "status": good}}]
        if mode == "broken":
            states.insert(0, {{"version": "2", "state": "END", "status": bad}})
        known = name in names and not self.path.endswith("/metadata")
        answer = {{"model_version_status": states}} if known else {{"error": "unknown"}}
        data = json.dumps(answer).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass

http.server.HTTPServer(("127.0.0.1", int(flags["rest_api_port"])), Handler).serve_forever()
"""

# Runs the server as if it were in a container: the mount is read where it lies, ports are the
# published ones.
_DOCKER = f"""#!{sys.executable}
import csv, os, signal, subprocess, sys
state = os.environ["FAKE_DOCKER"]
with open(state + "/calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
command = sys.argv[1]
if command == "version" and os.environ.get("FAKE_DAEMON") == "away":
    sys.exit("Cannot connect to the Docker daemon")
if command == "ps":
    print(os.environ.get("FAKE_CONTAINER", ""))
if command == "image":
    sys.exit(not os.path.exists(state + "/image"))
if command == "pull":
    open(state + "/image", "w").close()
if command == "run":
    arguments = sys.argv[2:]
    (mount,) = csv.reader([arguments[arguments.index("--mount") + 1]])
    source = dict(part.partition("=")[::2] for part in mount)["source"]
    rest = [a for a in arguments if a.endswith(":8501")][0].split(":")[-2]
    flags = arguments[arguments.index("--entrypoint") + 3 :]
    flags = [flag.replace("=/models/", "=" + source + "/") for flag in flags]
    flags = [flag.replace("=8501", "=" + rest) for flag in flags]
    server = os.path.join(os.path.dirname(os.path.abspath(__file__)), "in_container")
    process = subprocess.Popen([server, *flags])
    with open(state + "/pid", "w") as file:
        file.write(str(process.pid))
    # As Docker's client does, unless there is a terminal.
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    sys.exit(process.wait())
if command in ("stop", "rm"):
    number = signal.SIGTERM if command == "stop" else signal.SIGKILL
    os.kill(int(open(state + "/pid").read()), number)
"""


def install_server(folder: Path) -> None:
    """Puts a fake tensorflow_model_server into a folder."""
    _install(folder / "tensorflow_model_server", _SERVER)


def install_docker(folder: Path) -> None:
    """Puts a fake docker into a folder, with a server in its image."""
    _install(folder / "docker", _DOCKER)
    _install(folder / "in_container", _SERVER)


def _install(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
