"""Two profiles of one task on the inputs that both have answered: how often they agree, field by field, and what each costs. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.prompts import PromptProfile

_SQL = load_queries("medallion_defs.labeling.models", "compare.sql")
EXAMPLES = 5


@dataclass(frozen=True)
class Side:
    """One of the two profiles, over all of its inputs. `total_usd`: of all its attempts, those that failed included."""

    profile: str
    prompt_id: str
    answered: int
    dead: int
    open: int
    total_usd: Decimal

    @property
    def usd_per_answer(self) -> Decimal | None:
        """What one answer costs; None when there is none."""
        return self.total_usd / self.answered if self.answered else None


@dataclass(frozen=True)
class FieldAgreement:
    """One top-level field: inputs where either answer has it, and those where both say the same."""

    field: str
    inputs: int
    agreeing: int

    @property
    def rate(self) -> float:
        return self.agreeing / self.inputs


@dataclass(frozen=True)
class Disagreement:
    """One input to which the answers differ."""

    subject_key: str
    one_task_id: UUID
    other_task_id: UUID
    one: Mapping[str, Any]
    other: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Two profiles side by side. `inputs`: answered by both; `agreeing`: with the same output in every field."""

    task_key: str
    one: Side
    other: Side
    inputs: int
    agreeing: int
    fields: Sequence[FieldAgreement]
    examples: Sequence[Disagreement]

    @property
    def rate(self) -> float | None:
        """Share of the inputs with the same output; None without inputs."""
        return self.agreeing / self.inputs if self.inputs else None


def compare_profiles(settings: Settings, task_key: str, one: PromptProfile, other: PromptProfile, examples: int = EXAMPLES) -> Comparison:
    """Compare the answers to two profiles. Reads all results of the task: for a person, not for a loop.

    Args:
        examples: most inputs shown to which the answers differ.
    """
    values = {"task_key": task_key, "one": one.prompt_id, "other": other.prompt_id, "limit": examples}
    with db.connect(settings, "medallion_console") as connection:
        [(inputs, agreeing, fields)] = connection.execute(_SQL["inputs"], values).fetchall()
        with connection.cursor(row_factory=class_row(Disagreement)) as cursor:
            differing = cursor.execute(_SQL["differing"], values).fetchall()
        sides = [_read_side(connection, task_key, profile) for profile in (one, other)]
    return Comparison(task_key, sides[0], sides[1], inputs, agreeing, [FieldAgreement(*field) for field in fields], differing)


def _read_side(connection: psycopg.Connection, task_key: str, profile: PromptProfile) -> Side:
    with connection.cursor(row_factory=dict_row) as cursor:
        [row] = cursor.execute(_SQL["side"], {"task_key": task_key, "prompt_id": profile.prompt_id}).fetchall()
    return Side(profile.profile, profile.prompt_id, **row)
