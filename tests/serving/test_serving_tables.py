"""CSV files: what is read, and that each fault is told with its file, its line and the option that accepts it."""

import datetime
import gzip

import numpy as np
import pytest

from kerastoolkit.experiment import InputError
from kerastoolkit.serving import tables
from kerastoolkit.serving.tables import Reading, read_table

HOURS = ["2020-01-01 00:00,1,5", "2020-01-01 01:00,2,6", "2020-01-01 02:00,3,7", "2020-01-01 03:00,4,8"]


def write(tmp_path, *lines, header="time,a,b", name="t.csv"):
    (tmp_path / name).write_text("\n".join([header, *lines]) + "\n")
    return str(tmp_path / name)


def one(path, **reading):
    table = read_table(path, Reading(**reading))
    (series,) = table.series
    return table, series


def test_columns_times_and_the_usual_step_are_read(tmp_path):
    table, series = one(write(tmp_path, *HOURS))
    assert (table.columns, table.step, table.notes) == (("a", "b"), 3_600, ())
    np.testing.assert_array_equal(series.values, [[1, 5], [2, 6], [3, 7], [4, 8]])
    np.testing.assert_array_equal(np.diff(series.times), 3_600)
    assert series.times[0] == np.datetime64("2020-01-01", "s").astype(int)
    assert series.known.all()


def test_year_month_day_and_hour_columns_make_a_time(tmp_path):
    path = write(tmp_path, "7,2020,2,28,23", "8,2020,2,29,0", "9,2020,2,29,1", header="v,YEAR,month,Day,hour")
    table, series = one(path)
    assert table.columns == ("v",)
    assert series.times[1] == np.datetime64("2020-02-29", "s").astype(int)


@pytest.mark.parametrize(
    "form", ["%d.%m.%Y", "%Y-%m-%d", "%Y%m%d", "%b %d %Y", "%Y/%m/%d", "%d.%m.%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]
)
def test_usual_forms_of_dates_are_read(tmp_path, form):
    days = [datetime.datetime(2012, 2, day) for day in (13, 14, 15)]
    _, series = one(
        write(tmp_path, *(f"{day.strftime(form)},1" for day in days), header="date,a"), business_days=True, gaps="forward"
    )
    np.testing.assert_array_equal(series.times, [np.datetime64(day, "s").astype(int) for day in days])


def test_a_date_that_can_be_read_in_two_ways_is_refused_until_its_form_is_told(tmp_path):
    path = write(tmp_path, "01/02/2012,1", "02/02/2012,2", "03/02/2012,3", header="date,a")
    with pytest.raises(InputError, match="can be read in several ways; say time_format="):
        one(path)
    _, series = one(path, time_format="%d/%m/%Y")
    assert series.times[0] == np.datetime64("2012-02-01", "s").astype(int)


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (2, "2020-01-01 02:00,,7", r"t.csv, line 4: a is missing, and 0 more cells; gaps=forward"),
        (2, "2020-01-01 02:00,x,7", r"t.csv, line 4: a must be a number, got 'x'"),
        (2, "2020-01-01 02:00,inf,7", r"t.csv, line 4: a must be a number, got 'inf'"),
        (2, "2020-01-01 02:00,3", r"t.csv, line 4: must have 3 cells as the header has, got 2"),
        (2, "yesterday,3,7", r"t.csv, line 4: time must be a date such as 2013-03-01, got 'yesterday'"),
        (2, "2020-01-01 02:00:00:00,3,7", r"t.csv, line 4: .*; time_format, such as %d-%b-%y, says how dates are written"),
        (2, "2020-01-01 01:00,3,7", r"t.csv, line 4: has the time of line 3; 1 such rows; duplicates=last"),
        (2, "2020-01-01 00:30,3,7", r"t.csv, line 4: comes before the time of the row above; unsorted=sort"),
        (3, "2020-01-01 05:00,4,8", r"t.csv, line 5: is 3 hours after .* rows are missing; gaps=forward"),
        (3, "2020-01-01 02:10,4,8", r"t.csv, line 5: is 10 minutes after .* frequencies are mixed"),
    ],
)
def test_a_fault_is_told_with_file_and_line(tmp_path, line, change, message):
    rows = list(HOURS)
    rows[line] = change
    with pytest.raises(InputError, match=message):
        one(write(tmp_path, *rows))


def test_gaps_are_filled_from_before_and_known_as_filled(tmp_path):
    rows = ["2020-01-01 00:00,1,5", "2020-01-01 01:00,NA,6", "2020-01-01 02:00,3,7", "2020-01-01 04:00,9,9"]
    table, series = one(write(tmp_path, *rows), gaps="forward")
    np.testing.assert_array_equal(series.values, [[1, 5], [1, 6], [3, 7], [3, 7], [9, 9]])
    np.testing.assert_array_equal(series.known, [[1, 1], [0, 1], [1, 1], [0, 0], [1, 1]])
    assert len(table.notes) == 2


def test_rows_before_the_first_number_are_left_out(tmp_path):
    rows = ["2020-01-01 00:00,,5", *HOURS[1:]]
    table, series = one(write(tmp_path, *rows), gaps="forward")
    assert series.values[0, 0] == 2
    assert "the first 1 rows were left out" in table.notes[-1]


def test_unsorted_and_repeated_rows_are_put_right_where_an_option_says_so(tmp_path):
    path = write(tmp_path, HOURS[1], HOURS[0], "2020-01-01 01:00,99,6", *HOURS[2:])
    _, series = one(path, unsorted="sort", duplicates="last")
    np.testing.assert_array_equal(series.values[:, 0], [1, 99, 3, 4])


def test_text_is_dropped_with_a_note_or_one_hot(tmp_path):
    path = write(
        tmp_path, *(f"{row},{sky}" for row, sky in zip(HOURS, ["sun", "rain", "sun", "fog"], strict=True)), header="time,a,b,sky"
    )
    table, _ = one(path)
    assert table.columns == ("a", "b")
    assert "the column of text sky is left out (text=one_hot would use it)" in table.notes[0]
    table, series = one(path, text="one_hot")
    assert table.columns == ("a", "b", "sky=fog", "sky=rain", "sky=sun")
    np.testing.assert_array_equal(series.values[:, 2:], [[0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]])


def test_columns_made_of_text_in_training_are_made_again_in_another_file(tmp_path):
    rows = [f"{row},{sky}" for row, sky in zip(HOURS, ["sun", "snow", "sun", "sun"], strict=True)]
    path = write(tmp_path, *rows, header="time,a,b,sky")
    table, series = one(path, columns=("sky=rain", "a", "sky=sun"), text="one_hot")
    assert table.columns == ("sky=rain", "a", "sky=sun")
    np.testing.assert_array_equal(series.values, [[0, 1, 1], [0, 2, 0], [0, 3, 1], [0, 4, 1]])
    with pytest.raises(InputError, match="has no column wind=N"):
        one(path, columns=("wind=N",), text="one_hot")


def test_several_series_are_told_apart_and_columns_found_whatever_their_case(tmp_path):
    path = write(
        tmp_path, "2020-01-01,X,1,0", "2020-01-02,X,2,0", "2020-01-01,Y,3,0", "2020-01-02,Y,4,0", header="Date,TICKER,A,b"
    )
    table = read_table(path, Reading(columns=("a",)))
    assert table.columns == ("A",)
    assert {each.name: each.values[:, 0].tolist() for each in table.series} == {"X": [1, 2], "Y": [3, 4]}


def test_weekends_and_holidays_are_no_gaps_of_trading_days(tmp_path):
    rows = [f"2020-01-{day:02},1" for day in (2, 3, 6, 7, 8, 9, 10, 13, 14, 21)]
    path = write(tmp_path, *rows, header="date,a")
    assert len(one(path, business_days=True)[1].times) == 10
    with pytest.raises(InputError, match="line 4: is 3 days after"):
        one(path)


def test_packed_files_are_read_and_bombs_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.csv.gz"
    contents = "\n".join(["time,a,b", *HOURS]).encode()
    path.write_bytes(gzip.compress(contents))
    assert len(one(str(path))[1].times) == 4
    path.write_bytes(gzip.compress(contents)[:-9])
    with pytest.raises(InputError, match="t.csv.gz: cannot be read"):
        one(str(path))
    monkeypatch.setattr(tables, "MOST_BYTES", 1_000)
    path.write_bytes(gzip.compress(b"0" * 1_000_000))
    with pytest.raises(InputError, match="may hold at most 1,000 bytes"):
        one(str(path))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"time,a\n2020-01-01,\xff\n2020-01-02,1\n", r"line 2: must be UTF-8 text, got the byte 0xff"),
        (b'time,a\n2020-01-01,"1\n2020-01-02,1\n', r"is not CSV"),
        (b"time,a,a\n2020-01-01,1,1\n2020-01-02,1,1\n", r"line 1: the column a is there 2 times"),
        (b"time,a\n2020-01-01,1\n", r"needs a header and at least 2 rows, got 1"),
        (b"when,a\n2020-01-01,1\n2020-01-02,1\n", r"no column of dates found"),
        (b"time,a\n2020-01-01,x\n2020-01-02,y\n", r"has no numeric column"),
        (b"time,a\n2020-01-01,1\n2020-01-01,1\n", r"all rows have the same time"),
    ],
)
def test_what_is_no_table_of_a_series_is_refused(tmp_path, contents, message):
    (tmp_path / "t.csv").write_bytes(contents)
    with pytest.raises(InputError, match=message):
        one(str(tmp_path / "t.csv"))
