"""Whatever a model of random weights says, hotly sampled, it says in the form that was asked for."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jsonschema_rs
import pytest
import torch
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers, trainers

from camelid.core import Constraint, ModelInput, SamplingParams, ToolDefinition
from camelid.core.errors import ConfigError, ConstraintError, InputError
from camelid.infer import LLM
from camelid.infer.constraints import Constraints
from camelid.infer.engine import EngineConfig
from camelid.infer.request import Request, TokenEvent
from camelid.infer.sampler import Sampler
from camelid.inputs import ChatFormat, JsonTokenizer, call_constraint, parse_reply
from camelid.testing.tiny import tiny_model
from tiny_engines import engine, ids, request, run, tokenizer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/pet"}, "maxItems": 2},
        "note": {"anyOf": [{"type": "null"}, {"const": 'a "camel"'}]},
    },
    "required": ["name", "age", "pets"],
    "additionalProperties": False,
    "$defs": {"pet": {"enum": ["cat", "dog", 3.5, None]}},
}
TOOLS = [
    ToolDefinition("get-weather", "Weather.", SCHEMA),
    ToolDefinition("now", "Time.", {"properties": {}, "additionalProperties": False}),
]
REGEXES = [r"a+b?", r"[0-9]{3}-(Ö|é|ab)*x", r"(yes|no|maybe so)", r"[^\x00-\x7f]{2}[0-9]"]
EOT = tokenizer().special("eot")
SEEDS = range(50)


def json_schema(schema: object) -> Constraint:
    return Constraint("json_schema", json.dumps(schema))


def text(events: list[TokenEvent]) -> str:
    return "".join(event.text for event in events)


def answers(constraint: Constraint, **settings: Any) -> list[list[TokenEvent]]:
    used = engine(stop_ids=(EOT,), pages=256)
    made = [request(f"r{seed}", 5, seed, max_tokens=900, constraint=constraint, **settings) for seed in SEEDS]
    answered = list(run(used, *made).values())
    assert all(events[-1].error is None and events[-1].finish_reason == "stop" for events in answered)
    assert used.stats.pages_free == used.stats.pages_total
    return answered


def test_json_schema() -> None:
    validator = jsonschema_rs.validator_for(SCHEMA)
    answered = [json.loads(text(events)) for events in answers(json_schema(SCHEMA))]
    for answer in answered:
        validator.validate(answer)
    assert len({json.dumps(answer) for answer in answered}) == len(SEEDS)
    assert {pet for answer in answered for pet in answer["pets"]} == {"cat", "dog", 3.5, None}


def test_json_is_written_as_python_writes_it() -> None:
    schema = {
        "properties": {"a": {"enum": [1, 2]}, "b": {"type": "array", "items": {"const": 0}, "maxItems": 3}}
    }
    constraint = json_schema(
        schema | {"required": ["a", "b"], "additionalProperties": False, "type": "object"}
    )
    for events in answers(constraint):
        said = text(events)
        assert said == json.dumps(json.loads(said))


@pytest.mark.parametrize("regex", REGEXES)
def test_regex(regex: str) -> None:
    said = {text(events) for events in answers(Constraint("regex", regex))}
    assert all(re.fullmatch(regex, one) for one in said) and len(said) > 2


@pytest.mark.parametrize(
    "grammar", ['start: "(" start ")" | "x"', 'root ::= "(" root ")" | "x"'], ids=["lark", "gbnf"]
)
def test_grammar(grammar: str) -> None:
    said = {text(events) for events in answers(Constraint("grammar", grammar))}
    assert all(re.fullmatch(r"(\(*)x(\)*)", one) and one.count("(") == one.count(")") for one in said)
    assert len(said) > 2


@pytest.mark.parametrize("has_many", [True, False])
def test_calls(has_many: bool) -> None:
    schemas = {tool.name: jsonschema_rs.validator_for(dict(tool.parameters)) for tool in TOOLS}
    called, most = set(), 0
    for events in answers(call_constraint(TOOLS, has_many=has_many)):
        reply = parse_reply(text(events))
        assert reply.text == "" and reply.calls
        for call in reply.calls:
            schemas[call.name].validate(dict(call.arguments))
            called.add(call.name)
        most = max(most, len(reply.calls))
    assert called == {tool.name for tool in TOOLS} and (most > 1) == has_many
    with pytest.raises(InputError, match="parameters of f are of the type 'string'"):
        call_constraint([ToolDefinition("f", "", {"type": "string"})])


def test_the_end_of_an_answer() -> None:
    """A whole answer that could go on ends by the stop token, one that could not by itself; else by length."""
    (open_end,) = run(engine(stop_ids=(EOT,)), request("a", 5, constraint=Constraint("regex", "a+"))).values()
    assert open_end[-1].token_id == EOT and open_end[-1].text == "" and set(text(open_end)) == {"a"}
    for stop_ids in ((), (EOT,)):
        one = request("b", 5, constraint=Constraint("regex", "camel"))
        (whole,) = run(engine(stop_ids=stop_ids), one).values()
        assert text(whole) == "camel" and len(whole) == 5 and whole[-1].finish_reason == "stop"
    (cut,) = run(engine(), request("c", 5, max_tokens=3, constraint=Constraint("regex", "camel"))).values()
    assert text(cut) == "cam" and cut[-1].finish_reason == "length"
    (endless,) = run(engine(), request("d", 5, max_tokens=9, constraint=Constraint("regex", "a+"))).values()
    assert text(endless) == "a" * 9 and endless[-1].finish_reason == "length"


def test_company_preemption_and_logprobs() -> None:
    """A constraint is one request's own affair, and outlives the loss of its pages; logprobs stay the model's."""
    forms = [None, json_schema(SCHEMA), None, Constraint("regex", "[a-c]{70}"), None, call_constraint(TOOLS)]
    many = [
        request(f"r{index}", 60, index, max_tokens=100, constraint=constraint, num_logprobs=1)
        for index, constraint in enumerate(forms)
    ]
    alone = {one.id: run(engine(stop_ids=(EOT,)), one)[one.id] for one in many}
    assert run(engine(stop_ids=(EOT,)), *many) == alone
    poor = engine(stop_ids=(EOT,), pages=6, config=EngineConfig(step_tokens=16))
    scarce = run(poor, *many)
    assert {name: ids(events) for name, events in scarce.items()} == {
        name: ids(events) for name, events in alone.items()
    }
    assert poor.stats.num_preempted > 0 and poor.stats.pages_free == poor.stats.pages_total
    assert re.fullmatch("[a-c]{70}", text(scarce["r3"]))
    (first, *_) = alone["r3"]
    likeliest, own = first.alternatives[0], first.logprob
    assert own is not None and chr(own.token_id) in "abc" and own.logprob < likeliest.logprob < -0.1
    assert chr(likeliest.token_id) not in "abc"


@pytest.mark.parametrize(
    ("kind", "wrong", "reason"),
    [
        ("json_schema", '{"type"', "json_schema: EOF while parsing"),
        ("json_schema", '{"type": "strin"}', "Invalid type: strin"),
        ("json_schema", '{"enum": []}', "Unsatisfiable schema"),
        ("json_schema", '{"type": "string", "minLength": 5, "maxLength": 2}', r"minLength \(5\) is greater"),
        ("json_schema", '{"uniqueItems": true, "type": "array"}', "uniqueItems"),
        ("json_schema", '{"items":' * 9000 + "{}" + "}" * 9000, "recursion limit"),
        ("regex", "a(b", "unclosed group"),
        ("regex", "(" * 9999 + ")" * 9999, "exceed"),
        ("regex", "(?<=a)b", "look-around"),
        ("grammar", "start: x", "grammar: "),
        ("grammar", 'start: "a', "grammar: "),
        ("grammar", "start: <|eot|>", "unknown special token"),
        ("grammar", 'start: "("' + "(" * 9999 + '"a"' + ")" * 9999, "too deeply nested"),
    ],
)
def test_what_cannot_be_followed_is_refused_at_once(kind: Any, wrong: str, reason: str) -> None:
    used = engine()
    with pytest.raises(ConstraintError, match=reason) as refused:
        used.add(request("a", 5, constraint=Constraint(kind, wrong)))
    assert len(str(refused.value)) < 400 and not used.has_work and used.stats.num_waiting == 0


def test_what_turns_out_to_be_impossible_ends_with_an_error() -> None:
    """A grammar that asks for a special token by its id, and a bias that forbids what the grammar needs."""
    end = f'start: "ab" <[{EOT}]>'
    never = SamplingParams(constraint=Constraint("regex", "ab"), logit_bias=((ord("b"), -math.inf),))
    prompt = ModelInput.of_text([1, 2])
    used = engine(stop_ids=(EOT,))
    special = request("special", 5, constraint=Constraint("grammar", end))
    ended = run(used, special, Request("biased", prompt, never), request("other", 5))
    for name, said, reason in (
        ("special", "ab", "no token of this model"),
        ("biased", "a", "leave no token"),
    ):
        events = ended[name]
        assert text(events) == said and events[-1].finish_reason == "cancelled" and events[-1].token_id == -1
        assert events[-1].error is not None and reason in events[-1].error and events[-1].usage is not None
    assert len(ended["other"]) == 12 and used.stats.pages_free == used.stats.pages_total and not used.has_work
    chat_format = ChatFormat.for_model(tokenizer(), None)
    llm = LLM(tiny_model(max_position_embeddings=512), chat_format, cache_bytes=10**7)
    with pytest.raises(ConstraintError, match="leave no token"):
        llm.generate(["x"], never)
    assert not llm.engine.has_work
    with pytest.raises(ConfigError, match="logit_bias"):
        SamplingParams(logit_bias=((1, math.inf),))


def test_specials_are_never_text() -> None:
    """Neither the names of special tokens nor their stand-ins can be matched as text."""
    ends = tokenizer()
    ends.stop_ids = (EOT,)
    matcher = Constraints(ends, ends.vocab_size).matcher(Constraint("regex", r"(.|\n)*"))
    logits = torch.zeros(ends.vocab_size)
    matcher.forbid(logits)
    allowed = (logits == 0).nonzero().flatten().tolist()
    assert allowed[-1] == EOT and max(allowed[:-1]) < 256 and set(range(128)) <= set(allowed)
    assert tokenizer().token_bytes()[255:257] == [b"\xff", None]


def test_other_vocabularies() -> None:
    """Byte-level BPE out of a tokenizer.json, with merges, and ids that have no token."""
    learned = Encoder(models.BPE())
    learned.pre_tokenizer, learned.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(  # type: ignore[call-arg]
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    learned.train_from_iterator(["camel came Ö"] * 9, trainer)
    other = JsonTokenizer(learned.to_str(), 350, stop_names=["<|end|>"])
    end = other.control("<|end|>")
    pieces = other.token_bytes()
    assert len(pieces) == 350 and pieces[end] is None and pieces[349] is None
    assert any(piece and len(piece) > 1 and piece in b"came" for piece in pieces)
    sampling = SamplingParams(temperature=1.0, constraint=Constraint("regex", "(came|Ö){1,5}"))
    assert sampling.constraint is not None
    said = set()
    constraints = Constraints(other, 350)
    for seed in SEEDS:
        sampler = Sampler(sampling.replace(seed=seed), (), 350, constraints.matcher(sampling.constraint))
        chosen = []
        while not chosen or (chosen[-1].token_id != end and not chosen[-1].is_last):
            chosen.append(sampler(torch.zeros(350)))
        said.add(other.decode([one.token_id for one in chosen if one.token_id != end]))
    assert all(re.fullmatch("(came|Ö){1,5}", one) for one in said) and len(said) > 5
