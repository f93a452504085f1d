import csv

import pytest

from kerastoolkit.data.table_rows import is_tsv, table_rows
from kerastoolkit.experiment import InputError


@pytest.fixture
def rows(tmp_path):
    """Writes a file and gives (line, cells) of each of its rows."""

    def read(contents, names=("a",), name="t.csv", **kwargs):
        path = tmp_path / name
        path.write_bytes(contents.encode())
        return [(int(where.removeprefix(f"{path}, line ")), row) for where, row in table_rows(path, names, **kwargs)]

    return read


def test_a_row_stands_where_its_first_line_does(rows):
    found = rows('a,b\n1,2\n\n"x\ny\n\nz",3\n4,"5\n"\n6,7')
    assert found == [
        (2, {"a": "1", "b": "2"}),
        (4, {"a": "x\ny\n\nz", "b": "3"}),
        (8, {"a": "4", "b": "5\n"}),
        (10, {"a": "6", "b": "7"}),
    ]


def test_lines_may_end_as_on_windows(rows):
    assert rows("a,b\r\n1,2\r\n\r\n3,4\r\n") == [(2, {"a": "1", "b": "2"}), (4, {"a": "3", "b": "4"})]


def test_quotation_marks_stand_for_themselves_between_tabs(rows):
    found = rows('a\tb\n"1\t2, 3"\n""\t\'\n', name="t.tsv")
    assert found == [(2, {"a": '"1', "b": '2, 3"'}), (3, {"a": '""', "b": "'"})]


def test_a_cell_may_be_longer_than_the_csv_module_takes_and_its_limit_stays(rows):
    before = csv.field_size_limit()
    ((_, row),) = rows(f"a\n{'x' * 200_000}\n")
    assert len(row["a"]) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "tabs"), [("a.tsv", True), ("a.TSV.GZ", True), ("a.csv", False), ("tsv", False), ("a.tsv.csv", False)]
)
def test_a_name_says_what_parts_the_cells(tmp_path, name, tabs):
    assert is_tsv(tmp_path / name) is tabs


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("a,b\n1,2\n3\n", r"t.csv, line 3: must have 2 cells, as the header, got 1$"),
        ('a,b\n"1\n1",2\n3,4,5\n', r"t.csv, line 4: must have 2 cells, as the header, got 3$"),
        ('a,b\n1,2\n"3,4\n5,6\n', r"t.csv, line 3: the row that begins here is no CSV \("),
        ('a,b\n1,"2"x\n', r"t.csv, line 2: the row that begins here is no CSV \("),
        ("b,c\n", r"t.csv: must have one column a, got 0 \(it has: b, c\)$"),
        ("a,a\n", r"t.csv: must have one column a, got 2 \(it has: a, a\)$"),
        (",".join(f"c{i}" for i in range(99)), r"\(it has: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9\)$"),
        ("", r"t.csv: must have one column a, got 0 \(it has: none\)$"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(rows, contents, message):
    with pytest.raises(InputError, match=message):
        rows(contents)


def test_a_table_that_unpacks_to_too_much_is_refused(rows):
    with pytest.raises(InputError, match=r"t.csv: a text may have at most 10 bytes \(unpacked\), got more"):
        rows("a\n1\n2\n3\n4\n5\n6\n", most_bytes=10)
