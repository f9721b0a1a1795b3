"""What a policy says and what it decides, as data."""

from msgspec import Struct

from kubewitness.event import Level, Stage


class GroupResources(Struct, frozen=True):
    """One entry of a rule's ``resources``: an API group and what of it.

    An empty `resources` means everything of the group, subresources included.
    """

    group: str = ""
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()


class Rule(Struct, frozen=True):
    """One rule; an empty tuple means "any". The first rule that matches a request decides.

    Attributes:
        omit_managed_fields: None to inherit the policy's own setting.
        line: 1-based line of the rule in its file, 0 when it has none; not part of equality
            between policies' meanings, only for messages.
    """

    level: Level
    users: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[GroupResources, ...] = ()
    namespaces: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool | None = None
    line: int = 0


class PolicyDocument(Struct, frozen=True):
    """A whole policy as it is written: valid, but not yet ready to decide (see `Policy`)."""

    rules: tuple[Rule, ...]
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool = False


class Decision(Struct, frozen=True):
    """What is recorded of a request.

    Attributes:
        level: The decided level; `Level.NONE` records nothing.
        omit_stages: Stages that make no event, sorted by name, from policy and rule together.
        omit_managed_fields: Whether ``metadata.managedFields`` is left out of recorded objects.
        rule: Index of the rule that decided; None when no rule matched.
    """

    level: Level
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool = False
    rule: int | None = None
