"""Effects, rules and decisions: pinned figures, and what must hold for any rules."""

from __future__ import annotations

import fnmatch
import re
import time
from math import inf, nan, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import CONSTITUTION, DEFAULT, EFFECTS, QUESTIONS, RULE_LISTS, RULES, ask

from weftos.errors import InvalidRequest
from weftos.governance.articles import ARTICLES
from weftos.governance.articles import EFFECTS as REGISTERED
from weftos.governance.effects import DIMENSIONS, HARMLESS, WORST, EffectVector, effect_of
from weftos.governance.engine import Engine
from weftos.governance.environments import STANDARD, Environment, EnvironmentClass
from weftos.governance.rules import Branch, Condition, Rule, Severity, _matches

STRICT = {"permit": 0, "permit_with_warning": 1, "escalate_to_human": 2, "deny": 3}
ENGINE = CONSTITUTION.engine()


# --- effects ----------------------------------------------------------------------------------------------------------


def test_the_magnitude_is_the_euclidean_norm():
    assert WORST.magnitude == pytest.approx(sqrt(5))
    assert HARMLESS.magnitude == 0
    assert EffectVector(0.5, security=0.5).magnitude == pytest.approx(0.7071, abs=1e-4)
    assert EffectVector(0.1, 0.3, 0.3).worst_dimension == "fairness"
    assert EffectVector(0.5).any_exceeds(0.5) is False


@pytest.mark.parametrize("value", [nan, inf, -0.1, 1.0001, True, None, "0.5", [0.5]])
@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_figure_that_is_none_is_refused_and_counts_as_the_worst(name, value):
    with pytest.raises(InvalidRequest):
        EffectVector(**{name: value})
    effect, why = effect_of(HARMLESS, {name: value})
    assert effect == WORST
    assert "malformed" in why


@pytest.mark.parametrize("claimed", ["risk", 1, [], {"danger": 0.1}, {1: 0.1}])
def test_a_claim_that_is_no_effect_counts_as_the_worst(claimed):
    assert effect_of(HARMLESS, claimed)[0] == WORST


def test_an_action_without_effect_counts_as_the_worst():
    assert effect_of(None, None)[0] == WORST
    assert effect_of(None, {"risk": 0.0})[0] == WORST, "whatever the caller says"


@given(EFFECTS, EFFECTS)
def test_a_caller_can_only_make_it_worse(registered, claimed):
    counts, _ = effect_of(registered, {name: getattr(claimed, name) for name in DIMENSIONS})
    for name in DIMENSIONS:
        assert getattr(counts, name) == max(getattr(registered, name), getattr(claimed, name))


# --- patterns ---------------------------------------------------------------------------------------------------------


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=12))
def test_patterns_match_as_those_of_the_shell(pattern, text):
    assert _matches(pattern, text) == (re.fullmatch(fnmatch.translate(pattern), text) is not None)


def test_brackets_are_letters():
    assert _matches("[a]", "[a]")
    assert not _matches("[a]", "a")


def test_no_pattern_takes_for_ever():
    begun = time.process_time()
    assert not _matches("*a" * 60 + "b", "a" * 200)
    assert time.process_time() - begun < 5, "seconds; a matcher that tries all ways would need centuries"


# --- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({"risk": 0.9}, "deny"),
        ({"risk": 0.1}, "permit"),
        ({"privacy": 0.8}, "deny"),
        ({"security": 0.9, "risk": 0.5}, "deny"),
        ({"risk": 0.8, "novelty": 0.5}, "deny"),
        ({"risk": 0.4, "fairness": 0.4, "privacy": 0.4, "security": 0.4}, "deny"),
    ],
)
def test_pinned_decisions_of_the_articles(figures, verdict):
    decision = ENGINE.evaluate(ask(EffectVector(**figures)), DEFAULT)
    assert decision.verdict == verdict
    assert sorted(decision.evaluated) == sorted(rule.id for rule in ARTICLES)
    assert len(decision.evaluated) == 22


def test_there_are_as_many_articles_of_each_kind_as_there_should_be():
    count = lambda branch, severity: sum(rule.branch == branch and rule.severity == severity for rule in ARTICLES)  # noqa: E731
    assert {
        branch: tuple(count(branch, s) for s in (Severity.BLOCKING, Severity.WARNING, Severity.ADVISORY))
        for branch in Branch
    } == {Branch.LEGISLATIVE: (2, 5, 1), Branch.EXECUTIVE: (2, 2, 3), Branch.JUDICIAL: (3, 2, 2)}


def single(severity, outcome, **when):
    condition = Condition(**(when or {"above_threshold": True}))
    return Engine(
        [Rule(id="R-1", description="d", branch=Branch.JUDICIAL, severity=severity, outcome=outcome, when=condition)]
    )


def test_exactly_at_the_threshold_is_not_above_it():
    engine = single(Severity.BLOCKING, "deny")
    at = ask(EffectVector(0.7))
    assert (engine.evaluate(at, DEFAULT).verdict, engine.evaluate(at, DEFAULT).threshold_exceeded) == ("permit", False)
    assert engine.evaluate(ask(EffectVector(0.7001)), DEFAULT).verdict == "deny"


def test_warnings_and_notes_permit():
    high = ask(EffectVector(0.71))
    assert single(Severity.WARNING, "warn").evaluate(high, DEFAULT).verdict == "permit_with_warning"
    noted = single(Severity.ADVISORY, "note").evaluate(ask(EffectVector(0.9)), DEFAULT)
    assert (noted.verdict, noted.threshold_exceeded, noted.matched) == ("permit", True, ("R-1",))


def test_a_person_may_allow_what_blocks_and_never_what_is_critical():
    human = Environment(
        name="h",
        environment_class=EnvironmentClass.CUSTOM,
        risk_threshold=0.7,
        max_effect_magnitude=2.0,
        human_approval_required=True,
    )
    high = ask(EffectVector(0.9), environment=human)
    assert single(Severity.BLOCKING, "deny").evaluate(high, human).verdict == "escalate_to_human"
    assert single(Severity.CRITICAL, "deny").evaluate(high, human).verdict == "deny"
    assert ENGINE.evaluate(high, human).verdict == "escalate_to_human"


def test_in_production_a_person_decides_up_to_a_limit():
    production = STANDARD["production"]
    verdict = lambda risk: ENGINE.evaluate(ask(EffectVector(risk), environment=production), production).verdict  # noqa: E731
    assert [verdict(risk) for risk in (0.2, 0.4, 0.6)] == ["permit", "escalate_to_human", "deny"]
    decision = ENGINE.evaluate(ask(EffectVector(0.6), environment=production), production)
    assert "nothing above 0.5" in decision.reason
    assert decision.deciding_rule == ""


def test_the_decision_says_which_rule():
    decision = ENGINE.evaluate(ask(EffectVector(privacy=0.72)), DEFAULT)
    assert decision.verdict == "deny"
    assert decision.deciding_rule == "GOV-001"
    assert decision.matched[:2] == ("GOV-001", "SOP-L005")
    assert "GOV-001" in decision.reason


def test_a_known_action_that_is_dangerous_is_denied_and_a_harmless_one_is_not():
    remove = ENGINE.evaluate(ask(REGISTERED["tool.fs.remove"], "tool.fs.remove"), DEFAULT)
    assert (remove.verdict, round(remove.magnitude, 3)) == ("deny", 0.762)
    read = ENGINE.evaluate(ask(REGISTERED["tool.fs.read_file"], "tool.fs.read_file"), DEFAULT)
    assert read.verdict == "permit"
    unknown = ENGINE.evaluate(ask(WORST, "tool.unheard_of"), DEFAULT)
    assert unknown.verdict == "deny"


@given(RULE_LISTS, RULES, QUESTIONS)
def test_a_rule_more_never_makes_it_milder(rules, more, question):
    effect, action, environment = question
    rules = [rule for rule in rules if rule.id != more.id]
    asked = ask(effect, action, environment)
    before = Engine(rules).evaluate(asked, environment).verdict
    after = Engine([*rules, more]).evaluate(asked, environment).verdict
    assert STRICT[after] >= STRICT[before]


@given(RULE_LISTS, QUESTIONS, st.randoms())
def test_the_order_of_rules_means_nothing(rules, question, chance):
    effect, action, environment = question
    asked = ask(effect, action, environment)
    shuffled = list(rules)
    chance.shuffle(shuffled)
    engine = Engine(rules)
    assert engine.evaluate(asked, environment) == Engine(shuffled).evaluate(asked, environment)
    assert engine.evaluate(asked, environment) == engine.evaluate(asked, environment), (
        "what it remembers changes nothing"
    )


@given(RULE_LISTS, QUESTIONS)
def test_a_decision_is_what_a_plain_reading_of_the_rules_gives(rules, question):
    effect, action, environment = question
    asked = ask(effect, action, environment)
    worst = "permit"
    for rule in rules:
        w = rule.when
        applies = (
            rule.active
            and rule.branch in environment.active_branches
            and (not w.actions or any(fnmatch.fnmatchcase(action, one) for one in w.actions))
            and (not w.agents or any(one in ("7", "*") for one in w.agents))
            and (not w.environments or environment.environment_class in w.environments)
            and (not w.above or any(getattr(effect, name) > limit for name, limit in w.above.items()))
            and (w.magnitude_above is None or effect.magnitude > w.magnitude_above)
            and (not w.above_threshold or effect.magnitude > environment.risk_threshold)
        )
        if applies:
            said = {"note": "permit", "warn": "permit_with_warning", "require_approval": "escalate_to_human"}.get(
                rule.outcome, "deny"
            )
            if said == "deny" and rule.severity != "critical" and environment.human_approval_required:
                said = "escalate_to_human"
            worst = max(worst, said, key=STRICT.__getitem__)
    if effect.magnitude > environment.max_effect_magnitude:
        worst = "deny"
    assert Engine(rules).evaluate(asked, environment).verdict == worst


@pytest.mark.parametrize(
    "change",
    [
        {"id": "lower-1"},
        {"id": ""},
        {"id": "X"},
        {"description": ""},
        {"description": "a\nb"},
        {"severity": Severity.WARNING, "outcome": "deny"},
        {"severity": Severity.ADVISORY, "outcome": "require_approval"},
    ],
)
def test_a_rule_that_is_none_is_refused(change):
    good = {
        "id": "R-1",
        "description": "d",
        "branch": Branch.JUDICIAL,
        "severity": Severity.BLOCKING,
        "outcome": "deny",
    }
    Rule(**good)
    with pytest.raises(InvalidRequest):
        Rule(**good | change)


@pytest.mark.parametrize(
    "when", [{"above": {"danger": 0.5}}, {"above": {"risk": nan}}, {"magnitude_above": -1.0}, {"actions": ("",)}]
)
def test_a_condition_that_is_none_is_refused(when):
    with pytest.raises(InvalidRequest):
        Condition(**when)


def test_facts_must_all_match():
    when = Condition(facts={"path": "/etc/*", "mode": "w"})
    engine = single(Severity.BLOCKING, "deny", facts=when.facts)
    ask_with = lambda **facts: engine.evaluate(ask(HARMLESS, facts=facts), DEFAULT).verdict  # noqa: E731
    assert ask_with(path="/etc/passwd", mode="w") == "deny"
    assert ask_with(path="/etc/passwd") == "permit"
    assert ask_with(path="/home", mode="w") == "permit"


@pytest.mark.parametrize(
    "change",
    [{"risk_threshold": 1.5}, {"risk_threshold": nan}, {"max_effect_magnitude": -1}, {"active_branches": frozenset()}],
)
def test_an_environment_that_is_none_is_refused(change):
    good = {"name": "e", "environment_class": EnvironmentClass.CUSTOM, "risk_threshold": 0.5}
    with pytest.raises(InvalidRequest):
        Environment(**good | change)
