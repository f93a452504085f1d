"""What a search shall try is read as it is meant, or refused before any work."""

import pytest

from kerastoolkit import catalog
from kerastoolkit.search_space import Choice, Range, combinations, count, parse_space, value_text

RECIPE = '''"""Mine."""
def mine(*, rate: float = 0.1, depth: int = 20, filters: tuple[int, ...] = (8, 16), norm: str | None = "batch",
         compiled: bool | None = None, dropout: float | None = None) -> Experiment:
    """A recipe of my own."""
'''


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "mine.py").write_text(RECIPE)
    return catalog.find_recipe(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("depth=20,32", Choice((20, 32))),
        ("rate=1e-1, 2", Choice((0.1, 2.0))),
        ("norm=batch,layer,none", Choice(("batch", "layer", None))),
        ("compiled=true,false", Choice((True, False))),
        ("filters=(8,16),(16,32,64)", Choice(((8, 16), (16, 32, 64)))),
        ("rate=log(1e-4,1e-1)", Range("log", 1e-4, 0.1)),
        ("dropout = uniform( 0, 0.5 )", Range("uniform", 0.0, 0.5)),
        ("depth=uniform(1,4)", Range("uniform", 1, 4)),
        ("depth=log(8,128)", Range("log", 8, 128)),
    ],
)
def test_what_to_search_is_read_in_the_settings_own_type(recipe, text, meaning):
    (found,) = parse_space(recipe, [text]).values()
    assert found == meaning
    ends = found.values if isinstance(found, Choice) else (found.low, found.high)
    wanted = meaning.values if isinstance(meaning, Choice) else (meaning.low, meaning.high)
    assert list(map(type, ends)) == list(map(type, wanted))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rat=1,2", "mine has no setting rat; did you mean rate"),
        ("depth", "must be NAME=A,B,C or .*got depth"),
        ("depth=", "must be NAME=A,B,C or .*got depth="),
        ("depth=20", "depth has one value and so nothing to choose: fix it with --set depth=20"),
        ("depth=20,2e1", "depth must be int, got '2e1'"),
        ("rate=0.1,0.10", "rate has the choice 0.1 twice"),
        ("filters=8,16", r"put each choice in brackets, filters=\(..\),\(..\), got '8'"),
        ("rate=normal(0,1)", r"a range must be log\(LOW,HIGH\) or uniform\(LOW,HIGH\), got rate=normal\(0,1\)"),
        ("rate=unifrm(0,1)", "did you mean uniform"),
        ("norm=log(1,2)", "so it has no range"),
        ("rate=log(0.1)", r"log\(\) needs two ends, LOW and HIGH, got rate=log\(0.1\)"),
        ("rate=log(0,1)", r"the low end of log\(\) must be above 0, got rate=log\(0,1\)"),
        ("rate=log(1,0.1)", "must be below the high one"),
        ("rate=uniform(1,1)", "must be below the high one"),
        ("rate=uniform(0,inf)", "rate must be float, got 'inf'"),
        ("dropout=uniform(none,1)", "must be numbers"),
        ("depth=uniform(1,2.5)", "depth must be int, got '2.5'"),
    ],
)
def test_a_mistake_in_it_is_told_with_the_rule_and_what_was_given(recipe, text, message):
    with pytest.raises(ValueError, match=message):
        parse_space(recipe, [text])


def test_a_setting_that_is_searched_twice_is_refused(recipe):
    with pytest.raises(ValueError, match="depth is given twice"):
        parse_space(recipe, ["depth=1,2", "depth=3,4"])


def test_nothing_to_search_is_refused_with_the_settings_that_there_are(recipe):
    with pytest.raises(ValueError, match="mine has: rate, depth"):
        parse_space(recipe, [])


def test_the_order_of_the_words_does_not_matter(recipe):
    words = ["depth=1,2", "rate=log(1,2)"]
    assert list(parse_space(recipe, words)) == list(parse_space(recipe, words[::-1])) == ["rate", "depth"]


def test_a_value_is_written_so_that_a_setting_reads_the_same_one(recipe):
    for name, value in (("rate", 0.1 + 0.2), ("depth", 3), ("filters", (8, 16)), ("norm", None), ("compiled", False)):
        assert catalog.parse_overrides(recipe, [f"{name}={value_text(value)}"]) == {name: value}


def test_combinations_are_counted_where_they_can_be(recipe):
    space = parse_space(recipe, ["depth=uniform(1,4)", "compiled=true,false"])
    assert count(space) == 8 == len({tuple(each.values()) for each in combinations(space)})
    assert count(parse_space(recipe, ["depth=uniform(1,4)", "rate=uniform(0,1)"])) is None
