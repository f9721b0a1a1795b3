"""What to record: load an audit policy, decide with it, explain the decision.

A Policy is read once, checked whole and never changes; deciding is a pure function of the
request's attributes. Not here: making events (`recorder`), judging whether a policy is a *good*
one (`analysis`).

Read first: `evaluate` (the matcher), then `policy` (the cache in front of it), `load` (the
format) and `validate` (its rules). `explain` words what `evaluate` finds. Mistakes of form are
found by the room `documents`.

Source: audit specification sections 2 and 3.
"""

from kubewitness.policy.bundle import BundledPolicy, bundled_policies
from kubewitness.policy.explain import Explanation, FailedCondition, RuleTrace
from kubewitness.policy.load import load_policy
from kubewitness.policy.model import Decision, GroupResources, PolicyDocument, Rule
from kubewitness.policy.policy import Policy

__all__ = [
    "BundledPolicy",
    "Decision",
    "Explanation",
    "FailedCondition",
    "GroupResources",
    "Policy",
    "PolicyDocument",
    "Rule",
    "RuleTrace",
    "bundled_policies",
    "load_policy",
]
