"""``mstore backup`` and ``restore``: what they say, and how they end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modelstore.store import Store
from tests.cli.program import run
from tests.models import files_of, write_model

PHRASE = "a phrase that is long enough"


def blobs(place: Path) -> list[Path]:
    """Return the frames of the store."""
    return sorted((place / "tuned_models/.mstore/blobs").glob("*/*"))


def test_everything_goes_and_comes_back(place: Path) -> None:
    """A backup says its name and what moved; the next moves nothing; a restore makes the store."""
    first = run("backup", "saved")
    assert first.code == 0
    assert "2 versions" in first.out
    assert ", 0 new frames, 0 B sent" in run("backup", "saved").out
    assert len(run("backup", "list", "saved").out.splitlines()) == 3
    checked = run("backup", "check", "saved")
    assert (checked.code, checked.out.split(": ")[1]) == (0, "sound\n")
    back = run("restore", "saved", "back")
    assert (back.code, back.out.splitlines()[:2]) == (0, ["llama_1b@v1.0", "llama_1b@v1.1"])
    assert "mstore -C back checkout llama_1b@v1.1" in back.err
    assert run("-C", "back", "checkout", "v1.1").code == 0
    theirs = files_of(place / "two")
    assert files_of(place / "back/llama_1b/v1.1").items() >= theirs.items()
    again = run("restore", "saved", "back", "--json").data("restore")
    assert again["present"] == ["llama_1b@v1.0", "llama_1b@v1.1"]


def test_files_come_out_with_the_store(place: Path) -> None:
    """With --checkout the versions' directories are full, and nothing more is to be typed."""
    run("backup", "saved")
    back = run("restore", "saved", "back", "v1.1", "--checkout")
    assert (back.code, "checkout" in back.err) == (0, False)
    assert files_of(place / "back/llama_1b/v1.1").items() >= files_of(place / "two").items()


def test_files_come_without_a_store(place: Path) -> None:
    """With --files a directory has one version's files, and it takes exactly one version."""
    run("backup", "saved")
    shown = run("restore", "saved", "out", "v1.1", "--files", "-n")
    assert (shown.code, "would be written to out" in shown.out) == (0, True)
    assert not (place / "out").exists()
    assert (
        "written to out, every byte checked"
        in run("restore", "saved", "out", "v1.1", "--files").out
    )
    assert files_of(place / "out") == files_of(place / "two")
    again = run("restore", "saved", "out", "v1.1", "--files", "--json").data("restore")
    assert (again["store"], again["path"], again["size"]) == (None, str(place / "out"), 0)
    for words in ([], ["v1.0", "v1.1"], ["v1.1", "--checkout"]):
        assert run("restore", "saved", "other", *words, "--files").code == 2


def test_a_name_of_the_store_is_a_destination(place: Path) -> None:
    """A remote can hold backups, and its name says where it is."""
    config = {"remotes": {"usb": {"url": str(place / "saved")}}}
    (place / "tuned_models/.mstore/config.json").write_text(json.dumps(config))
    (place / "saved").mkdir()
    name = run("backup", "usb", "-q").out.strip()
    assert name in run("backup", "list", "usb").out
    assert run("restore", "usb", "back", "-q").out == "llama_1b@v1.0\nllama_1b@v1.1\n"
    os.chdir(place / "back")  # no store of ours knows the name there
    assert run("backup", "list", "usb2").code == 7


def test_a_damaged_store_is_saved_as_far_as_it_goes(place: Path) -> None:
    """Exit code 3, with the versions that are not whole there; status and restore tell as well."""
    largest = max(blobs(place), key=lambda path: path.stat().st_size)
    largest.unlink()
    done = run("backup", "saved")
    assert done.code == 3
    assert "llama_1b@v1.0" in done.err
    assert run("backup", "status", "saved").code == 1
    assert "missing" in run("backup", "list", "saved").out
    dry = run("backup", "saved", "-n", "--json")
    assert dry.code == 3
    assert dry.data("backup")["missing"][0]["blob"] == largest.name
    back = run("restore", "saved", "back")
    assert back.code == 3
    assert "lost before the backup was made" in back.err


def test_status_is_an_alarm(place: Path) -> None:
    """No backup, or one that is too old, is exit code 1."""
    (place / "saved").mkdir()
    none = run("backup", "status", "saved")
    assert (none.code, none.out) == (1, "there is no complete backup\n")
    run("backup", "saved")
    assert run("backup", "status", "saved").code == 0
    assert run("backup", "status", "saved", "--older-than", "0h").code == 1
    assert run("backup", "status", "nowhere").code == 7


def test_pruning_says_why_backups_stay(place: Path) -> None:
    """Rules are asked for; a dry run removes nothing; reasons are shown."""
    names = [run("backup", "saved", "-q").out.strip() for _ in range(3)]
    refused = run("backup", "prune", "saved")
    assert refused.code == 2
    assert "--keep-daily" in refused.err
    dry = run("backup", "prune", "saved", "--keep-last", 1, "-n", "--json").data("backup-prune")
    assert dry["removed"] == names[:2]
    assert len(run("backup", "list", "saved", "--json").data("backup-list")) == 3
    shown = run("backup", "prune", "saved", "--keep-last", 1)
    assert "the newest, the newest complete, one of the last 1" in shown.out
    assert len(run("backup", "list", "saved", "--json").data("backup-list")) == 1


def test_an_encrypted_destination_asks_for_its_key(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, or another one, is exit code 12; with it all is as elsewhere."""
    assert run("backup", "saved", "--encrypt").code == 12
    (place / "no-key").write_text("not a key")
    assert run("backup", "saved", "--encrypt", "--key-file", place / "no-key").code != 0
    assert not (place / "saved").exists()
    monkeypatch.setenv("MSTORE_PASSPHRASE", PHRASE)
    assert run("backup", "saved", "--encrypt").code == 0
    assert ", 0 new frames" in run("backup", "saved").out
    monkeypatch.setenv("MSTORE_PASSPHRASE", PHRASE + "!")
    assert run("backup", "saved").code == 12
    monkeypatch.delenv("MSTORE_PASSPHRASE")
    key = place / "key"
    key.write_text(f"mstore-key-1 {'ab' * 32}\n")
    assert run("backup", "other", "--encrypt", "--key-file", key).code == 0
    assert run("backup", "check", "other", "--key-file", key).code == 0
    assert run("backup", "check", "other").code == 12
    monkeypatch.setenv("MSTORE_KEY_FILE", str(key))
    assert run("restore", "other", "back", "-q").code == 0
    assert run("backup", "plain").code == 0
    assert run("backup", "plain", "--encrypt").code == 5


def test_a_store_is_repaired_from_its_backup(place: Path) -> None:
    """What fsck finds lost comes back; without --repair there is nothing to bring back to."""
    run("backup", "saved")
    for path in blobs(place)[::2]:
        path.unlink()
    assert run("fsck", "--from", "saved").code == 2
    assert run("fsck", "--repair").code == 1
    assert run("fsck", "--repair", "--from", "saved").code == 0
    assert run("fsck", "--full").code == 0


def test_one_version_at_a_time(place: Path) -> None:
    """Versions can be fetched one after the other, from different backups, into one store."""
    first = run("backup", "saved", "-q").out.strip()
    run("commit", write_model(place / "three", step=2e-3), "-m", "three")
    run("backup", "saved")
    assert run("restore", "saved", "back", "llama_1b@v1.1", "--at", first).code == 0
    shown = run("restore", "saved", "back", "llama_1b@v1.2", "-n")
    assert (shown.code, shown.out.splitlines()[0]) == (0, "llama_1b@v1.2 would come")
    assert run("restore", "saved", "back", "llama_1b@v1.2").code == 0
    assert run("restore", "saved", "back").code == 0
    assert [
        str(v) for v in Store(place / "back").state(Store(place / "back").models()[0]).versions()
    ] == [
        "v1.0",
        "v1.1",
        "v1.2",
    ]
    assert run("restore", "saved", "back", "llama_1b@v7.0").code == 4


def test_the_python_api_does_the_same(place: Path) -> None:
    """A backup and a restore are two calls."""
    import modelstore
    from modelstore.errors import UsageError

    store = modelstore.open("tuned_models")
    done = store.backup("saved", verify="all")
    assert done.backup.complete
    assert done.read > 0
    store.rm("v1.1")
    store.gc(purge_now=True)
    assert [one.now for one in store.restore("saved", "v1.1").versions] == ["llama_1b@v1.1"]
    with pytest.raises(UsageError, match="Verify"):
        store.backup("saved", verify="some")


def test_a_destination_without_backups_is_not_sound(place: Path) -> None:
    """A check of a disk that was not mounted must not look like one of good backups."""
    (place / "empty").mkdir()
    done = run("backup", "check", "empty")
    assert (done.code, done.out) == (1, "no backup\n")
    assert "mstore backup empty" in done.err
    assert "mstore backup empty" in run("restore", "empty", "new").err


def test_hints_name_the_destination(place: Path) -> None:
    """They can be typed as they stand."""
    run("backup", "kept")
    assert "mstore backup list kept" in run("restore", "kept", "new", "--at", "2001-01-01").err
