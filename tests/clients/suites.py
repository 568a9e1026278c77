"""Run the clients' own test suites against a broker on port 5672 and print who passed.

    python tests/clients/suites.py [--broker wherry|rabbitmq] [--json FILE] [SUITE ...]

The suites come from the clients' source distributions (of those that have no tests in theirs from
a checkout given by `--source NAME=DIRECTORY`: pika, stomp.py, java-client, and rabbitmq-server with
the tests of RabbitMQ's own STOMP) into `.cache/suites`, which git ignores. Nothing of them enters
the project. What a suite asks of `rabbitmqctl` is asked of Wherry by `rabbitmqctl.py`.

Suites and broker run in a network namespace of their own that has loopback only: the suites want
port 5672, and some of their tests dial hosts outside. That needs root and `unshare`; `--here` runs
them without. Left out are the tests that resolve a public name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "suites"
PYTHON = CACHE / "venv" / "bin" / "python"

sys.path.insert(0, str(HERE.parent))

import rabbitmqctl  # noqa: E402
import suites_java  # noqa: E402

from wire import brokers  # noqa: E402

SUITE_SECONDS_MAX = 1500
"""aiormq's takes 150 s on an idle machine and traces all its memory: a busy one is far slower."""

REQUIREMENTS = [
    "pytest",
    "pytest-timeout",
    "pytest-rerunfailures",
    "pytest-freezer",
    "pytest-mock",
    "hypothesis",
    "aiomisc-pytest",
    "tornado",
    "twisted",
    "gevent",
    "pytz",
    "pika==1.4.4",
    "stomp-py==9.0.0",
    "websocket-client==1.9.2",
]


@dataclass
class Suite:
    """`command` runs in `directory` and writes JUnit's XML to the path that is put for `{xml}`."""

    package: str
    version: str
    directory: str
    command: list[str]
    registry: str = "pypi"
    needs: str = ""
    """A package of Node's that its tests import."""
    environment: dict[str, str] = field(default_factory=dict)
    report: str = ""
    """A pattern of where it writes its reports, if it says so itself."""
    durable: bool = False
    """Restarts the broker, which has to keep what it had."""

    @property
    def source(self) -> Path:
        return CACHE / self.directory


_PYTEST = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml={xml}"]

_STOMP_PY = [
    *("basic", "cli", "context", "misc", "nonascii", "override_threading", "rabbitmq"),
    *("s10", "s11", "s12", "ss", "ssl", "threading", "transport", "utils"),
]
"""The rest wants other brokers, other machines or containers."""

_STOMP_PY_FILES = {
    "client.key": "client_key.pem",
    "client.pem": "client_certificate.pem",
    "broker.pem": "ca_certificate.pem",
}

_RABBITMQ_STOMP = [
    *("parsing", "errors", "connect_disconnect", "ack", "amqp_headers", "queue_properties"),
    *("reliability", "transactions", "x_queue_name", "destinations", "redelivered", "unsubscribe"),
]
"""Those that need no program to change the configuration of a running RabbitMQ, and no management
API.
"""

_JAVA_SERVER = [
    "BlockedConnection",
    "MemoryAlarms",
    "XDeathHeaderGrowth",
    "Permissions",
    "TopicPermissions",
    "DeadLetterExchangeDurable",
]
"""The rest of the client's tests of servers changes the configuration of a running RabbitMQ.

`Permissions.publish` and `noAccess` can fail against any broker, RabbitMQ too: over Netty the
client's answer to `channel.close` overtakes a `basic.qos` that another thread has handed over
before it, and a method behind `channel.close-ok` is an error of the connection (504).
"""

SUITES = {
    "pika": Suite(
        "pika",
        "1.4.4",
        "pika-repository",
        [*_PYTEST, "--timeout=60", "tests/acceptance"],
        registry="checkout",
    ),
    "aiormq": Suite(
        "aiormq",
        "7.2.4",
        "aiormq-7.2.4",
        [*_PYTEST, "--timeout=60", "-p", "suites_aiormq", "tests"],
        environment={"PYTHONPATH": str(HERE)},
    ),
    "py-amqp": Suite(
        "amqp",
        "5.4.2",
        "amqp-5.4.2",
        [
            *_PYTEST,
            "--timeout=60",
            "-p",
            "no:rerunfailures",
            "-p",
            "suites_marks",
            "t/integration/test_rmq.py",
            "--deselect=t/integration/test_rmq.py::test_tls_default_certs",
            "--deselect=t/integration/test_rmq.py::test_tls_no_default_certs_fails",
        ],
        environment={"PYTHONPATH": str(HERE)},
    ),
    "kombu": Suite(
        "kombu",
        "5.7.0",
        "kombu-5.7.0",
        [
            *_PYTEST,
            "--timeout=120",
            "-p",
            "no:rerunfailures",
            "-p",
            "suites_marks",
            "t/integration/test_py_amqp.py",
        ],
        environment={"PYTHONPATH": str(HERE)},
    ),
    "amqplib": Suite(
        "amqplib",
        "2.0.1",  # the newest whose package has its tests
        "amqplib-2.0.1",
        [
            "node",
            "--test",
            "--test-timeout=60000",
            "--test-reporter=junit",
            "--test-reporter-destination={xml}",
        ],
        registry="npm",
        needs="claire@0.4.1",
        environment={"URL": "amqp://localhost"},
    ),
    "java-client": Suite(
        "java-client",
        "5.35.0",
        "java-client",
        suites_java.command(
            str(CACHE / "java-client"),
            [
                "com.rabbitmq.client.test.functional.FunctionalTestSuite",
                *(f"com.rabbitmq.client.test.server.{name}" for name in _JAVA_SERVER),
            ],
        ),
        registry="checkout",
        report="java-client/reports/*.xml",
        durable=True,
    ),
    "stomp.py": Suite(
        "stomp.py",
        "",
        "stomp.py-repository",
        [
            *_PYTEST,
            "--timeout=60",
            *(f"tests/test_{name}.py" for name in _STOMP_PY),
            # Which dial foreign addresses, or ask for multicast.
            "--deselect=tests/test_basic.py::TestBasic::test_timeout",
            "--deselect=tests/test_ss.py::TestWithStompServer::test_alternate_hosts",
            "--deselect=tests/test_cli.py::TestCLI::test_multicast",
        ],
        registry="checkout",
        environment={
            "STD_HOST": "127.0.0.1",
            "STD_PORT": "61613",
            "STD_SSL_PORT": "61614",
            "STD_USER": "guest",
            "STD_PASSWORD": "guest",
            "RABBITMQ_PORT": "61613",
            "RABBITMQ_WS_HOST": "127.0.0.1",
        },
    ),
    "rabbitmq-stomp": Suite(
        "rabbitmq-stomp",
        "",
        "rabbitmq-server-repository/deps/rabbitmq_stomp/test/python_SUITE_data/src",
        [
            *_PYTEST,
            "--timeout=120",
            *(f"{name}.py" for name in _RABBITMQ_STOMP),
            # Which change the configuration, or wait for what `rabbitmqctl` says.
            "--deselect=connect_disconnect.py::TestConnectDisconnect::test_default_user",
            "--deselect=parsing.py::TestParsing::test_broadcast",
        ],
        registry="checkout",
        environment={
            "STOMP_PORT": "61613",
            "AMQP_PORT": "5672",
            # Some list queues on the way, for their log.
            "RABBITMQCTL": "true",
            "RABBITMQ_NODENAME": "none",
        },
    ),
}


def prepare(names: list[str], sources: dict[str, str]) -> None:
    """Fetch what is missing. Needs the package registries, so it comes before the namespace."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv")], check=True)
    wanted = REQUIREMENTS + [
        f"{one.package}=={one.version}" for one in SUITES.values() if one.registry == "pypi"
    ]
    stamp = CACHE / "venv" / "stamp"
    if not stamp.exists() or stamp.read_text() != "\n".join(wanted):
        subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", *wanted], check=True)
        stamp.write_text("\n".join(wanted))
    for name in names:
        suite = SUITES[name]
        if name == "java-client":
            if name in sources:
                suites_java.build(Path(sources[name]).resolve(), suite.version, suite.source)
            elif not (suite.source / "classpath").exists():
                _fetch(suite)
        elif name in sources:
            suite.directory = str(Path(sources[name]).resolve())
        elif not suite.source.exists():
            _fetch(suite)


def _fetch(suite: Suite) -> None:
    requirement = f"{suite.package}=={suite.version}"
    if suite.registry == "pypi":
        command = [str(PYTHON), "-m", "pip", "download", "-q", "--no-deps"]
        command += ["--no-binary", suite.package, "-d", str(CACHE), requirement]
    elif suite.registry == "npm":
        command = ["npm", "pack", "--silent", requirement.replace("==", "@")]
    else:
        sys.exit(f"{suite.package} has no tests in its package: --source {suite.package}=CHECKOUT")
    subprocess.run(command, check=True, cwd=CACHE, timeout=300, stdout=subprocess.DEVNULL)
    (archive,) = [
        one for one in CACHE.glob(f"{suite.package}-{suite.version}.*gz") if one.is_file()
    ]
    with tarfile.open(archive) as bundle:
        if suite.registry == "npm":
            bundle.extractall(CACHE / "unpacked", filter="data")
            (CACHE / "unpacked" / "package").rename(suite.source)
            # Above the package, or npm would bring all that its authors develop with.
            install = ["npm", "install", "--silent", "--no-save", suite.needs]
            subprocess.run(install, check=True, cwd=CACHE, timeout=300)
        else:
            bundle.extractall(CACHE, filter="data")


def certificates() -> brokers.Tls:
    """An authority, a server's certificate and a client's, where the tests of py-amqp and stomp.py
    look for them.
    """
    directory = CACHE / "certificates"
    if not directory.exists():
        directory.mkdir()
        key = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
        authority = ["-x509", "-days", "3650", "-subj", "/CN=authority"]
        commands = [[*key, *authority, "-keyout", "ca_key.pem", "-out", "ca_certificate.pem"]]
        (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
        for name in ("server", "client"):
            request = f"{name}_request.pem"
            sign = ["openssl", "x509", "-req", "-days", "3650", "-extfile", "names"]
            sign += ["-CA", "ca_certificate.pem", "-CAkey", "ca_key.pem", "-CAcreateserial"]
            commands += [
                [*key, "-subj", "/CN=localhost", "-keyout", f"{name}_key.pem", "-out", request],
                [*sign, "-in", request, "-out", f"{name}_certificate.pem"],
            ]
        for command in commands:
            subprocess.run(command, check=True, cwd=directory, capture_output=True)
        # A pair that does not match.
        (directory / "client_certificate_broken.pem").symlink_to("client_certificate.pem")
        (directory / "client_key_broken.pem").symlink_to("server_key.pem")
    wanted = SUITES["py-amqp"].source / "t" / "certs"
    if wanted.parent.exists() and not wanted.exists():
        wanted.symlink_to(directory)
    wanted = SUITES["stomp.py"].source / "tmp"
    if wanted.parent.exists():
        wanted.mkdir(exist_ok=True)
        for name, made in _STOMP_PY_FILES.items():
            if not (wanted / name).exists():
                (wanted / name).symlink_to(directory / made)
    return brokers.Tls(
        directory / "server_certificate.pem",
        directory / "server_key.pem",
        directory / "ca_certificate.pem",
    )


@dataclass
class Score:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failing: list[str] = field(default_factory=list)


def run(suite: Suite, broker: brokers.Broker) -> Score:
    reports = suite.report or f"{suite.package}.xml"
    for old in CACHE.glob(reports):
        old.unlink()
    known = {"{xml}": str(CACHE / reports)}
    if (suite.source / "classpath").exists():
        known["{classpath}"] = (suite.source / "classpath").read_text()
    environment = os.environ | {"RABBITMQ_HOST": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= suite.environment
    if broker.kind == "rabbitmq":
        environment |= broker.environment
        known["{ctl}"] = "/usr/lib/rabbitmq/bin/rabbitmqctl"
        known["{node}"] = broker.environment["RABBITMQ_NODENAME"]
    else:
        environment[rabbitmqctl.VARIABLE] = str(rabbitmqctl.describe(broker))
        known["{ctl}"] = f"{sys.executable} {rabbitmqctl.__file__}"
        known["{node}"] = "any"

    def filled(part: str) -> str:
        for name, value in known.items():
            part = part.replace(name, value)
        return part

    started = time.monotonic()
    with (CACHE / f"{suite.package}.log").open("wb") as log:
        process = subprocess.Popen(
            [filled(part) for part in suite.command],
            cwd=suite.source,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            process.wait(SUITE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if broker.kind == "wherry":
        rabbitmqctl.end(broker)
    score = Score(seconds=time.monotonic() - started)
    written = sorted(CACHE.glob(reports))
    if not written:
        score.failing.append(f"no report: see {CACHE / suite.package}.log")
        return score
    for case in (case for xml in written for case in ElementTree.parse(xml).iter("testcase")):
        if case.find("skipped") is not None:
            score.skipped += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            score.failed += 1
            score.failing.append(f"{case.get('classname')}::{case.get('name')}")
        else:
            score.passed += 1
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=list(SUITES), metavar="SUITE")
    parser.add_argument("--broker", default="wherry")
    parser.add_argument("--source", action="append", default=[], metavar="NAME=DIRECTORY")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--here", action="store_true", help="no namespace: take port 5672 of this machine"
    )
    arguments = parser.parse_args()
    sources = dict(one.split("=", 1) for one in arguments.source)
    for unknown in [name for name in arguments.suites if name not in SUITES]:
        parser.error(f"no suite {unknown}: there are {', '.join(SUITES)}")
    prepare(arguments.suites, sources)
    if not arguments.here:
        command = [sys.executable, *sys.argv, "--here"]
        isolated = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
        sys.exit(subprocess.run(isolated, check=False).returncode)

    tls = certificates()
    brokers.stop_with_sigterm()
    scores: dict[str, Score] = {}
    print(f"| {arguments.broker} | passed | failed | skipped | seconds |\n|---|---|---|---|---|")
    for name in arguments.suites:
        # A fresh broker each: one suite's leavings must not fail the next.
        stomp = brokers.Stomp(61613, 15674)
        suite = SUITES[name]
        with brokers.start(
            arguments.broker, port=5672, tls=tls, stomp=stomp, durable=suite.durable
        ) as broker:
            score = scores[name] = run(suite, broker)
        print(
            f"| {name} | {score.passed} | {score.failed} | {score.skipped} | {score.seconds:.0f} |",
            flush=True,
        )
    for name, score in scores.items():
        for failing in score.failing:
            print(f"{name}: {failing}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({name: vars(score) for name, score in scores.items()}, indent=1)
        )
    sys.exit(any(score.failing for score in scores.values()))


if __name__ == "__main__":
    main()
