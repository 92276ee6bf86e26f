"""What a mistyped number on a command line gets."""

from __future__ import annotations

import argparse

import pytest

from detr_d2.arguments import add_opts, number, whole_number


@pytest.mark.parametrize("text", ["-1", "0", "11", "007", "1.0", "ten", "", "٣"])
def test_whole_number_names_what_is_allowed(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="isn't a whole number from 1 to 10"):
        whole_number(1, 10)(text)


def test_whole_number_takes_its_bounds() -> None:
    assert [whole_number(1, 10)(text) for text in ("1", "10")] == [1, 10]


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "much"])
def test_number_says_what_it_is_to_be(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="isn't a probability"):
        number(0, 1, "a probability")(text)


def test_opts_take_the_rest_of_the_line() -> None:
    parser = argparse.ArgumentParser()
    add_opts(parser, "config keys")

    assert parser.parse_args(["--opts", "A.B", "-1"]).opts == ["A.B", "-1"]
    assert parser.parse_args([]).opts == []
