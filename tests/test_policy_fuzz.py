"""Whatever the bytes: a Policy or a PolicyError, and soon."""

import gzip
import json
import tracemalloc
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kubewitness.errors import PolicyError
from kubewitness.policy import Policy, bundled_policies, load_policy
from kubewitness.request import RequestAttributes
from vectors import DATA, vectors

HEAD = b"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n"
TEXTS = (
    [path.read_bytes() for path in sorted((DATA / "conformance").glob("*.yaml"))]
    + [bundled.data for bundled in bundled_policies()]
    + [json.dumps(vector["policy"]).encode() for vector in vectors("policy_match")[::5]]
    + [vector["policy"].encode() for vector in vectors("policy_invalid")]
)
PIECES = [
    *(b"\n", b"\n\n", b" ", b"  ", b"\t", b"\r\n", b"\x00", b"\x0b", b"\x1b", b"\x7f", b"\x85"),
    *(b":", b": ", b"- ", b"? ", b", ", b"[", b"]", b"{", b"}", b"#", b"'", b'"', b"|", b">"),
    *(b"\\", b"&a ", b"*a", b"<<: *a\n", b"<<: [*a, *a]", b"<<", b"=", b"!", b"!<", b"!!bool "),
    *(b"!!binary ", b"!!int ", b"---\n", b"...\n", b"%YAML 1.1\n---\n", b"%TAG ! x\n"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xe2\x80\xa8", b"\xef\xbf\xbe", b"\xed\xa0\x80"),
    *(b"null", b"~", b"yes", b"0x1F", b"1e999", b".nan", b"[]", b"{}", b'"\\ud83d"', b'"\\x0"'),
    *(b'"\\ud83d\\ude00"', b'"\\UFFFFFFFF"', b"[" * 60, b"- " * 60, b"? " * 60, b"k" * 1500),
    *(b"rules:\n", b"- level: None\n", b"level", b"users: ", b"resources: ", b"metadata: "),
    *(b"apiVersion: audit.k8s.io/v1\n", b"omitStages"),
]


def mutated(text: bytes, random: Random) -> bytes:
    """Return a text with a few pieces put in, taken out, doubled or moved."""
    for _ in range(random.randint(1, 6)):
        start, end = sorted((random.randint(0, len(text)), random.randint(0, len(text))))
        if random.random() < 0.7:
            end = min(end, start + random.randint(0, 12))
        cut = text[start:end]
        new = random.choice([b"", cut * 2, random.choice(PIECES), cut[::-1], random.randbytes(2)])
        text = text[:start] + new + text[end:]
    return text


def load_somehow(data: bytes) -> None:
    """Load strictly and leniently; each ends in a Policy that decides, or in a PolicyError."""
    strict, lenient = outcome(data, lenient=False), outcome(data, lenient=True)

    for policy in (strict, lenient):
        if isinstance(policy, Policy):
            policy.explain(RequestAttributes(verb="get", path="/"))
        else:
            assert policy.problems
            assert all(problem.line >= 1 and problem.column >= 1 for problem in policy.problems)
            assert all(str(problem).isprintable() for problem in policy.problems)
    if isinstance(strict, Policy):
        assert isinstance(lenient, Policy)
        assert strict.document == lenient.document
        assert not lenient.dropped


def outcome(data: bytes, *, lenient: bool) -> Policy | PolicyError:
    try:
        return load_policy(data, "fuzz", lenient=lenient)
    except PolicyError as error:
        return error


@pytest.mark.parametrize("seed", range(20))
def test_mutated_policies(seed: int) -> None:
    random = Random(seed)  # noqa: S311  (not a secret)
    for text in random.choices(TEXTS, k=120):
        load_somehow(mutated(text, random))


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=25).map(b"".join))
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"\x00\x01\x02\xff\xfe" * 50)
@example(gzip.compress(HEAD))
def test_random_pieces_of_yaml_and_json(body: bytes) -> None:
    load_somehow(body)
    load_somehow(HEAD + b"- level: None\n  " + body)


@settings(max_examples=300)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["rules", "level", "users", "resources", "group", "metadata", "<<", ""]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_value_in_a_policy(value: object) -> None:
    head = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}
    load_somehow(json.dumps(value).encode())
    load_somehow(json.dumps({**head, "rules": value}).encode())
    load_somehow(json.dumps({**head, "rules": [value]}).encode())
    load_somehow(json.dumps({**head, "rules": [{"level": "None", "users": value}]}).encode())


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_json_keeps_every_string(name: str, ensure_ascii: bool) -> None:  # noqa: FBT001
    document = {"apiVersion": "audit.k8s.io/v1", "rules": [{"level": "None", "users": [name]}]}
    data = json.dumps(document, ensure_ascii=ensure_ascii).encode()

    assert load_policy(data).rules[0].users == (name,)


def laughs(levels: int, width: int, template: str) -> bytes:
    """Return mappings of aliases of mappings of aliases, ten times as much at each level."""
    lines = ["metadata:", "  annotations:", "    a0: &a0 {level: None}"]
    for level in range(1, levels):
        references = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"    a{level}: &a{level} {template.replace('REFERENCES', references)}")
    lines.append(f"rules: [*a{levels - 1}]")
    return ("apiVersion: audit.k8s.io/v1\n" + "\n".join(lines)).encode()


def nested_aliases(width: int) -> bytes:
    """Return a document that stays shallow, and grows by `width` at each of a policy's levels."""
    return (
        "apiVersion: audit.k8s.io/v1\nrules:\n"
        "- &rule\n  level: None\n  resources:\n"
        f"  - &entry\n    resources: [&r pods{', *r' * width}]\n"
        + "  - *entry\n" * width
        + "- *rule\n" * width
    ).encode()


SIZE = 20_000
HOSTILE = {
    "brackets": b"[" * SIZE,
    "braces in YAML": b"a: " + b"{" * SIZE,
    "braces, so JSON": b"{" * SIZE,
    "JSON lists": b'{"a":' + b"[" * SIZE,
    "deep JSON": b'{"a":' * SIZE + b"1" + b"}" * SIZE,
    "deep JSON lists": b'{"a":' + b"[" * SIZE + b"]" * SIZE + b"}",
    "dashes": b"- " * SIZE,
    "question marks": b"? " * SIZE,
    "indentation": b"".join(b" " * i + b"a:\n" for i in range(400)),
    "closing": b"a: " + b"]" * SIZE,
    "quotes": b"'" * SIZE,
    "one quote": b"a: '" + b"x " * SIZE,
    "backslashes": b'{"a": "' + b"\\" * SIZE,
    "one long word": b"x" * SIZE * 10,
    "one long key": HEAD + b"- level: None\n  " + b"x" * 1000 + b": 1\n",
    "one long quoted key": b'{"' + b"x" * SIZE * 50 + b'": 1}',
    "a key of dots": b'{"' + b".[" * SIZE * 10 + b'": 1, "rules": [{}]}',
    "colons": b": " * SIZE,
    "commas": b"a: [" + b"," * SIZE,
    "comments": b"#\n" * SIZE,
    "blank lines": b"\n" * SIZE * 10,
    "documents": b"---\n" * SIZE,
    "directives": b"%A b\n" * SIZE,
    "a huge version": b"%YAML 1." + b"1" * SIZE + b"\n---\na: b\n",
    "anchors": b"".join(b"- &a%d x\n" % i for i in range(3000)),
    "one anchor": b"- &a x\n" * 3000,
    "aliases": b"- &a x\n" + b"- *a\n" * 5000,
    "an alias of itself": b"&a [*a]",
    "a key that is itself": b"&a {*a : *a}",
    "a merge of itself": HEAD + b"- &a {level: None, <<: *a}\n",
    "merges of itself": HEAD + b"- &a {level: None, <<: [*a, *a, *a, *a, *a, *a, *a, *a]}\n",
    "laughs in lists": laughs(30, 10, "[REFERENCES]"),
    "laughs in values": laughs(30, 10, "{users: [REFERENCES], level: None}"),
    "laughs in merges": laughs(30, 10, "{<<: [REFERENCES], level: Metadata}"),
    "laughs in keys": laughs(30, 1, "{? [REFERENCES, REFERENCES] : x}"),
    "a chain of merges": laughs(400, 1, "{<<: REFERENCES}"),
    "aliases at each level": nested_aliases(300),
    "unknown keys": HEAD + b"- level: None\n" + b"".join(b"  verb%d: 1\n" % i for i in range(2000)),
    "unknown keys in JSON": json.dumps({f"verb{i}": 1 for i in range(SIZE // 4)}).encode(),
    "duplicate keys": HEAD + b"- level: None\n" + b"  users: [a]\n" * 2000,
    "duplicate keys in JSON": b'{"rules": []' + b', "rules": []' * SIZE + b"}",
    "rules": HEAD + b"- {level: Nope}\n" * 2000,
    "users": HEAD + b"- level: None\n  users: [" + b"1," * (SIZE // 4) + b"]\n",
    "spaces in a word": HEAD + b"- level: " + b"a " * SIZE,
    "a group of hyphens": HEAD + b"- {level: None, resources: [{group: a" + b"-" * SIZE + b"}]}\n",
    "binary": bytes(range(256)) * 100,
    "binary text": b"a: !!binary " + b"A" * SIZE,
    "UTF-16 without end": b"\xff\xfe" + b"a" * (2 * SIZE + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_come_to_an_end(name: str) -> None:
    load_somehow(HOSTILE[name])


@pytest.mark.parametrize("name", ["laughs in lists", "laughs in merges", "aliases at each level"])
def test_aliases_do_not_fill_the_memory(name: str) -> None:
    tracemalloc.start()
    with pytest.raises(PolicyError, match=r"aliases stand for too much|deep"):
        load_policy(HOSTILE[name], lenient=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 20_000_000


def test_aliases_in_reason_are_fine() -> None:
    shared = nested_aliases(20)
    policy = load_policy(shared)

    assert len(policy.rules) == 21
    assert len(policy.rules[0].resources) == 21
    assert len(policy.rules[0].resources[0].resources) == 21
