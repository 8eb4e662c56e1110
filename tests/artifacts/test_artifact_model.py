"""Whatever is done in whatever order, the store holds what a dictionary would."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from stores_for_tests import files_in, name_of

from weftos.artifacts import HEADER_BYTES, ArtifactInfo, ArtifactRef, ArtifactStore
from weftos.errors import ArtifactCorrupted, ArtifactNotFound

CONTENTS = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"a", b"b"]))
TYPES = st.sampled_from(["text/plain", "a/b", "application/json"])


class Held:
    def __init__(self, content, content_type, now):
        self.content, self.content_type, self.first, self.last = content, content_type, now, now


class Model(RuleBasedStateMachine):
    names = Bundle("names")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.now = time.time_ns() + 10**9
        self.held: dict[str, Held] = {}
        self.damaged: set[str] = set()
        self.evidence = 0
        self.reopen()

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule()
    def reopen(self):
        self.store = ArtifactStore(os.path.join(self.folder, "a"), clock_ns=lambda: self.now)

    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds):
        self.now += seconds * 10**9

    @rule(target=names, content=CONTENTS, content_type=TYPES, stream=st.booleans())
    def put(self, content, content_type, stream):
        digest = name_of(content)
        ref = self.store.put(io.BytesIO(content) if stream else content, content_type)
        assert ref == ArtifactRef(digest, len(content), content_type)
        if digest in self.held and digest not in self.damaged:
            self.held[digest].last = self.now
        else:
            self.evidence += digest in self.damaged
            self.damaged.discard(digest)
            self.held[digest] = Held(content, content_type, self.now)
        return digest

    @rule(digest=names, stream=st.booleans())
    def get(self, digest, stream):
        def read():
            if not stream:
                return self.store.get(digest)
            with self.store.open_stream(digest) as file:
                assert file.content_type == self.held[digest].content_type
                return b"".join(file)

        if digest not in self.held:
            with pytest.raises(ArtifactNotFound):
                read()
        elif digest in self.damaged:
            with pytest.raises(ArtifactCorrupted):
                read()
            self.evidence += 1
            self.damaged.discard(digest)
            del self.held[digest]
        else:
            assert read() == self.held[digest].content

    @rule(digest=names)
    def damage(self, digest):
        if digest in self.held:
            path = os.path.join(self.store.directory, digest[:2], digest)
            times = os.stat(path)
            with open(path, "ab") as file:
                file.write(b"!")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            self.damaged.add(digest)

    @rule(referenced=st.sets(names), seconds=st.integers(0, 150))
    def collect(self, referenced, seconds):
        result = self.store.collect_garbage(referenced, seconds, self.now / 1e9)
        # A float of seconds cannot hold nanoseconds, so what lies on the border may go either way.
        limit, border = self.now - seconds * 10**9, 10**3
        loose = {digest: held.last - limit for digest, held in self.held.items() if digest not in referenced}
        assert {digest for digest, age in loose.items() if age < -border} <= set(result.removed)
        assert set(result.removed) <= {digest for digest, age in loose.items() if age <= border}
        for digest in result.removed:
            del self.held[digest]
            self.damaged.discard(digest)

    @invariant()
    def the_list_is_the_model(self):
        expected = [
            ArtifactInfo(digest, os.path.getsize(self.path(digest)) - HEADER_BYTES, held.content_type, held.first)
            for digest, held in sorted(self.held.items())
        ]
        assert self.store.list() == expected

    @invariant()
    def nothing_else_lies_about(self):
        names = [os.path.basename(name) for name in files_in(Path(self.folder))]
        assert sorted(name for name in names if ".damaged-" not in name) == sorted(self.held)
        assert len(names) == len(self.held) + self.evidence

    def path(self, digest):
        return os.path.join(self.store.directory, digest[:2], digest)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
