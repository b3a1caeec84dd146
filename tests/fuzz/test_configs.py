"""Command lines: composed and built, or refused in one line."""

import contextlib

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stp.cli import unexpected
from stp.config import SCHEMAS, build
from tests.config import ROOTS, raw
from tests.fuzz import inputs, outcome
from tests.fuzz.texts import CONTROLS
from tests.integration.runs import EXAMPLE

LIBRARIES = (HydraException, OmegaConfBaseException)  # which stp.cli says in one line
CUSTOM = ("task=custom", f"task.data.path={EXAMPLE}/questions.jsonl", f"task.reward={EXAMPLE}/sorting.py:reward")
STARTS = [  # every class of every group is in one of them
    ("train",),
    ("train", "scale=paper", "task=gsm8k", "sampler=standard"),
    ("train", "estimator=spg", "objective=policy_gradient", "task=math"),
    ("train", "estimator=one_step"),
    ("train", "estimator=coupled"),
    ("train", "estimator=unigrpo", "sampler=adaptive", "objective=sequence", "rescue=igpo", "task=gsm8k"),
    ("train", "estimator=trace", "objective=wd1", "rescue=resample", "task=sudoku"),
    ("train", "estimator=causal", "objective=dmpo"),
    ("train", "objective=stable", *CUSTOM),
    ("plan",),
    ("evaluate",),
    ("evaluate", "protocol=published"),
    ("trace",),
    ("export",),
    ("pretrain",),
    ("pregenerate",),
]
VALUES = [
    *("null", "true", "no", "0", "-1", "1", "2", "3", "7", "48", "0.5", "1e-9", "1.0", "nan", "inf", "-inf", "1e400", "1e30"),
    *(
        "9" * 30,
        "1" + "0" * 5_000,
        "-9223372036854775809",
        "0x10",
        "1_000",
        "٣",
        "''",
        "' '",
        "abc",
        "std",
        "none",
        "cpu",
        "nf4",
    ),
    *("[]", "[0]", "[1,abc]", "[[1]]", "{}", "{a:1}", "{lora:{rank:2}}", "[null]", "[" * 40 + "]" * 40, "{rank:{rank:3}}"),
    *("${seed}", "${nothing}", "${oc.env:NOTHING}", "${oc.env:HOME}", "${..seed}", "${", "${model}", "${trainer.updates}", "$"),
    *(
        "???",
        "/proc/nothing",
        "a\\,b",
        "a=b",
        "'a b'",
        '"\\"',
        "π",
        "😀",
        "a,b",
        "range(3)",
        "choice(1,2)",
        "glob(*)",
        "int(3)",
    ),
    "x" * 10_000,
]


NEAR = ["0", "1", "2", "3", "4", "6", "8", "12", "16", "24", "48", "0.05", "0.1", "0.5", "true"]


def names(config, prefix=""):
    """Every field and table of a config by its name on the command line."""
    for key in config:
        yield f"{prefix}{key}"
        value = config._get_node(key)
        if OmegaConf.is_dict(value) and not value._is_none():
            yield from names(value, f"{prefix}{key}.")


@pytest.fixture(scope="module")
def composed():
    """Each start, composed once."""
    return {start: raw(*start) for start in STARTS}


def overrides(config):
    """Overrides of the fields of a config and of others: set to what they are, to what may fit, to anything; added, deleted."""
    known = sorted(names(config))
    of_schema = st.sampled_from(known)
    scalars = {name: value for name in known if isinstance(value := OmegaConf.select(config, name), bool | int | float)}
    same = st.sampled_from(sorted(scalars.items())).map(lambda item: f"{item[0]}={item[1]}".lower())
    near = st.tuples(st.sampled_from(sorted(scalars)), st.sampled_from(NEAR)).map("=".join)
    name = st.one_of(*[of_schema] * 8, of_schema.map(lambda n: n + "x"), st.text(st.characters(), max_size=6))
    value = st.one_of(
        st.sampled_from(VALUES),
        st.sampled_from(CONTROLS),
        st.integers().map(str),
        st.floats().map(str),
        st.text(st.characters(), max_size=12),
    )
    anything = st.tuples(name, value).map("=".join)
    marked = st.tuples(st.sampled_from(["", "", "+", "++", "~"]), anything).map("".join)
    mixed = st.one_of(same, near, anything, marked, st.text(max_size=5))
    return st.lists(same | near, min_size=1, max_size=3) | st.lists(mixed, max_size=3)


@contextlib.contextmanager
def composing():
    """Hydra's own ValueErrors: integers of too many digits, tables given to groups. stp.cli says them in one line too."""
    try:
        yield
    except ValueError as error:
        raise HydraException(unexpected(error)) from None


def test_fields_given_anything_are_built_or_refused(composed):
    given_to = {start: overrides(config) for start, config in composed.items()}

    @inputs(150)
    @given(st.sampled_from(STARTS).flatmap(lambda start: st.tuples(st.just(start), given_to[start])))
    def check(example):
        start, given_ = example

        def work():
            config = composed[start].copy()
            with composing():
                ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(given_), config)
            return build(config)

        built = outcome("configs", work, *LIBRARIES)
        assert built is None or isinstance(built, ROOTS[start[0]])

    check()


OPTIONS = [
    f"{group}={option}" for group in SCHEMAS for option in ("tiny", "stp", "paper", "null", "{}", "[a]", "3", "../train", "é")
]
OPTIONS += ["scale=paper", "experiment=lora", "sampling=dream_7b", "search=optuna", "experiment=[lora,table5_stp]", "hydra=x"]
OPTIONS += ["estimator=spg", "objective=policy_gradient", "model=llada_8b", "zero=stage3", "task=math", "sampler=standard"]


@inputs(12)
@given(
    st.sampled_from(sorted(ROOTS)),
    st.lists(st.sampled_from(OPTIONS), max_size=3),
    st.lists(
        st.tuples(st.sampled_from(["seed", "sampler.length", "model.lora", "task.data.path"]), st.sampled_from(VALUES)),
        max_size=2,
    ),
)
def test_groups_given_anything_are_composed_or_refused(entry, options, fields):
    def work():
        with composing():
            config = raw(entry, *options, *map("=".join, fields))
        return build(config)

    built = outcome("configs", work, *LIBRARIES)
    assert built is None or isinstance(built, ROOTS[entry])


def test_the_starts_hold_every_class(composed):
    types = {
        OmegaConf.get_type(node)
        for config in composed.values()
        for key in config
        if OmegaConf.is_config(node := config._get_node(key))
    }
    assert types >= {schema for group in SCHEMAS.values() for schema in group.values()}
