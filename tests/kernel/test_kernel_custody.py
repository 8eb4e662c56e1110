"""An attestation of what an instance holds, made by its kernel and checked by somebody else."""

from __future__ import annotations

import json

from click.testing import CliRunner

from weftos import chain
from weftos.chain.signing.pins import Pins
from weftos.chain.statements.custody import Attestation, verify_attestation
from weftos.cli.main import root


def test_an_attestation_names_log_and_tree_and_verifies_elsewhere(kernel, tmp_path, monkeypatch):
    path = f"/kernel/agents/{kernel.spawn('echo').agent_id}"
    kernel.until(lambda: kernel.call("resource.inspect", path=path).metadata["state"] == "running")
    made = kernel.call("custody.attest")
    record = next(r for r in chain.read(str(kernel.home.chain), start=made.record, stop=made.record + 1))
    assert (record.kind, record.source) == ("custody.attestation", "chain")
    found = Attestation.from_payload(record.payload)
    keys = Pins(str(kernel.home.known_logs)).get(made.origin)
    verify_attestation(found, keys.ed25519)
    assert found.roots["tree"].hex() == kernel.call("resource.stats").root_hash
    assert made.attestation["size"] == found.size == made.record
    kept = tmp_path / "attestation.json"
    kept.write_text(json.dumps({"origin": made.origin, **made.attestation}))
    elsewhere = tmp_path / "keys.txt"
    elsewhere.write_text(kernel.home.known_logs.read_text())
    monkeypatch.setenv("WEFTOS_HOME", str(tmp_path / "another"))
    good = CliRunner().invoke(root, ["custody", "check", str(kept), "--key", str(elsewhere)])
    assert good.exit_code == 0, good.output
    assert "VALID" in good.output
    kept.write_text(kept.read_text().replace(f'"size": {found.size}', f'"size": {found.size + 1}'))
    bad = CliRunner().invoke(root, ["custody", "check", str(kept), "--key", str(elsewhere)])
    assert bad.exit_code == 5 or "AttestationInvalid" in repr(bad.exception)
