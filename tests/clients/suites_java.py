"""The tests of RabbitMQ's Java client, compiled against its release, for `suites.py`.

A checkout has the tests; building it whole would need RabbitMQ's code generator and its plugins of
Maven. So the dependencies are read from its `pom.xml` into one that has nothing else, and `javac`
compiles the tests.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

_MAVEN = "http://maven.apache.org/POM/4.0.0"

# What a suite of a broker can do without, a tracing system and macOS, and the tests that want it.
_WITHOUT = {"MicrometerObservationCollectorMetrics", "NettyTest", "TlsConnectionLogging"}
_UNWANTED = {
    "micrometer-tracing-integration-test",
    "micrometer-docs-generator",
    "netty-transport-native-kqueue",
}


def _dependency(group: str, artifact: str, version: str = "") -> ElementTree.Element:
    element = ElementTree.Element(f"{{{_MAVEN}}}dependency")
    parts = {"groupId": group, "artifactId": artifact, "version": version}
    for name, text in parts.items():
        if text:
            ElementTree.SubElement(element, f"{{{_MAVEN}}}{name}").text = text
    return element


def _write_pom(checkout: Path, version: str, pom: Path) -> None:
    ElementTree.register_namespace("", _MAVEN)
    theirs = ElementTree.parse(checkout / "pom.xml").getroot()
    ours = ElementTree.Element(f"{{{_MAVEN}}}project")
    for name, text in {
        "modelVersion": "4.0.0",
        "groupId": "suites",
        "artifactId": "suites",
        "version": "1",
    }.items():
        ElementTree.SubElement(ours, f"{{{_MAVEN}}}{name}").text = text
    for name in ("properties", "dependencyManagement", "dependencies"):
        found = theirs.find(f"{{{_MAVEN}}}{name}")
        if found is not None:
            ours.append(found)
    dependencies = ours.find(f"{{{_MAVEN}}}dependencies")
    assert dependencies is not None
    for one in list(dependencies):
        if one.findtext(f"{{{_MAVEN}}}artifactId") in _UNWANTED:
            dependencies.remove(one)
    dependencies.append(_dependency("com.rabbitmq", "amqp-client", version))
    dependencies.append(_dependency("org.junit.platform", "junit-platform-console"))
    ElementTree.ElementTree(ours).write(pom)


def build(checkout: Path, version: str, target: Path) -> None:
    """Compile the tests of a checkout into `target/classes`; the class path goes into
    `target/classpath`.
    """
    if (target / "classpath").exists():
        return
    if shutil.which("mvn") is None or shutil.which("javac") is None:
        sys.exit("the Java client's suite needs Maven and a JDK")
    shutil.rmtree(target, ignore_errors=True)
    sources = target / "java"
    shutil.copytree(checkout / "src" / "test" / "java", sources)
    shutil.copytree(checkout / "src" / "test" / "resources", target / "classes")
    for source in sources.rglob("*.java"):
        if source.stem in _WITHOUT:
            source.unlink()
        elif source.stem.endswith("TestSuite"):
            lines = source.read_text().splitlines(keepends=True)
            kept = [line for line in lines if not any(name in line for name in _WITHOUT)]
            source.write_text("".join(kept))
    _write_pom(checkout, version, target / "pom.xml")
    resolve = ["mvn", "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile=path"]
    subprocess.run(resolve, check=True, cwd=target, timeout=900)
    path = (target / "path").read_text().strip()
    files = [str(source) for source in sources.rglob("*.java")]
    compile_ = ["javac", "-nowarn", "-J-Xmx700m", "-d", "classes", "-cp", path, *files]
    subprocess.run(compile_, check=True, cwd=target, timeout=900)
    (target / "classpath").write_text(f"{target / 'classes'}:{path}")


def command(target: str, classes: list[str]) -> list[str]:
    """Runs test classes. What only a started broker knows stands in braces."""
    return [
        *("java", "-Xmx400m", "-Djava.net.preferIPv4Stack=true", "-Drabbitmqctl.bin={ctl}"),
        *("-Dtest-broker.A.nodename={node}", "-Dtest-broker.A.node_port=5672"),
        *("-cp", "{classpath}", "org.junit.platform.console.ConsoleLauncher", "execute"),
        *("--disable-banner", "--details=none", "--reports-dir", f"{target}/reports"),
        *(part for name in classes for part in ("--select-class", name)),
    ]
