"""The command line: what is taken, and one line for what isn't."""

from pathlib import Path

import pytest

from webhook.options import Files, Options, SelfSigned, parse
from webhook.sidecar import Settings

IMAGE = ["--loader-image", "example/loader:1"]
OWN = ["--self-signed", "--service=podrate", "--namespace=system", "--secret=podrate-tls", "--configuration=podrate"]


def test_a_certificate_of_our_own() -> None:
    assert parse([*IMAGE, *OWN]) == Options(
        Settings("example/loader:1"), 10250, 8080, SelfSigned("podrate", "system", "podrate-tls"), "podrate", 60, 5
    )


def test_a_certificate_from_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "tls.crt"
    file.touch()
    given = parse(
        [
            *IMAGE,
            "--loader-image-pull-policy=Never",
            "--port=1",
            "--health-port=0",
            f"--certificate={file}",
            f"--key={file}",
            "--overlap=0",
            "--drain=2.5",
        ]
    )
    assert given == Options(Settings("example/loader:1", "Never"), 1, 0, Files(file, file), None, 0, 2.5)
    trusted = parse([*IMAGE, f"--certificate={file}", f"--key={file}", f"--authorities={file}", "--configuration=p"])
    assert (trusted.certificate, trusted.configuration) == (Files(file, file, file), "p")


def test_what_the_operator_chooses_about_pods() -> None:
    given = parse(
        [
            *IMAGE,
            *OWN,
            "--loader-image-pull-secrets=registry,other",
            "--loader-requests=cpu=0.05,memory=32Mi",
            "--loader-limits=",
            "--sandboxed-runtime-classes=",
            "--kubernetes-annotations",
        ]
    )
    requests = {"cpu": "0.05", "memory": "32Mi"}
    settings = Settings("example/loader:1", None, ("registry", "other"), requests, {}, (), kubernetes_annotations=True)
    assert given.settings == settings
    assert parse([*IMAGE, *OWN, "--loader-once"]).settings.once
    assert parse([*IMAGE, *OWN, "--loader-metrics-port=9095"]).settings.metrics_port == 9095
    assert parse([*IMAGE, *OWN, "--sandboxed-runtime-classes=a,b-*"]).settings.sandboxes == ("a", "b-*")


def test_metrics_of_a_loader_that_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([*IMAGE, *OWN, "--loader-once", "--loader-metrics-port=9095"])
    assert "not with --loader-once" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad",
    [
        "--loader-image-pull-secrets=A",
        "--loader-requests=cpu",
        "--loader-requests=cpu=fast",
        "--loader-limits=cpu=1,cpu=2",
        "--loader-metrics-port=0",
        "--loader-metrics-port=http",
        "--sandboxed-runtime-classes=a,,b",
        "--sandboxed-runtime-classes=A",
    ],
)
def test_what_it_can_not_choose(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([*IMAGE, *OWN, bad])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert bad.partition("=")[0] in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: --loader-image"),
        (
            ["--loader-image", ""],
            "argument --loader-image: '' is not an image's name, for example podrate-loader:0.1.0",
        ),
        (["--loader-image", "a b"], "argument --loader-image: 'a b' is not an image's name, "),
        (IMAGE, "without --self-signed: --certificate, --key missing"),
        ([*IMAGE, "--self-signed"], "--self-signed: --service, --namespace, --secret, --configuration missing"),
        ([*IMAGE, *OWN, "--authorities", "/dev/null"], "--self-signed: --authorities not allowed"),
        (
            [*IMAGE, "--certificate=/dev/null", "--key=/dev/null", "--authorities=/dev/null"],
            "--authorities: --configuration missing, which is to trust them",
        ),
        ([*IMAGE, *OWN, "--drain", "1m"], "argument --drain: '1m' is not a number of seconds, 0 to 9999, "),
        ([*IMAGE, *OWN, "--key", "/dev/null"], "--self-signed: --key not allowed"),
        ([*IMAGE, "--certificate", "/dev/null"], "without --self-signed: --key missing"),
        ([*IMAGE, "--key", "/nowhere"], "argument --key: '/nowhere': No such file or directory"),
        ([*IMAGE, *OWN, "--port", "65536"], "argument --port: '65536' is not a port, 0 to 65535"),
        ([*IMAGE, *OWN, "--health-port", "\u0661"], "argument --health-port: '\\u0661' is not a port, 0 to 65535"),
        ([*IMAGE, *OWN, "--service", "a.b"], "argument --service: 'a.b' is not a name of lower case letters, "),
        ([*IMAGE, *OWN, "--secret", "A"], "argument --secret: 'A' is not a name of lower case letters, "),
        ([*IMAGE, *OWN, "--loader-image-pull-policy", "never"], "argument --loader-image-pull-policy: invalid choice"),
        (
            [*IMAGE, *OWN, "--loader-requests=memory=0.1Gi"],
            "--loader-requests: memory=0.1Gi is more than --loader-limits has, 64Mi",
        ),
        ([*IMAGE, *OWN, "--self"], "unrecognized arguments: --self"),
    ],
    ids=str,
)
def test_bad_options_get_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert printed.startswith(f"python -m webhook: {line}")
    assert printed.endswith("(see --help)")
