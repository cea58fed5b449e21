"""Pictures and pages of predictions: where things are drawn, and that they are drawn the same."""

import re

import numpy as np

from hilum.dicom_results.display import (
    DisplayFrame,
    Words,
    grey_of,
    with_caption,
    with_heat,
    with_outlines,
)
from hilum.dicom_results.page import Page, print_page
from hilum.metrics import Diameter

RED = (228, 26, 28)


def frame(shape=(20, 30), pixel_mm=(2.0, 1.0)):
    return DisplayFrame(np.zeros(shape, np.float32), pixel_mm)


def test_pixels_become_square():
    assert frame().size == (768, 576)  # 40 mm high, 30 mm wide
    assert frame(pixel_mm=(0.5, 1.0)).size == (256, 768)
    assert frame().pixels.shape == (768, 576, 3)


def test_places_are_those_of_the_frames_pixels():
    shown = frame()
    assert shown.place((-0.5, -0.5)) == (-0.5, -0.5)
    assert shown.place((19.5, 29.5)) == (575.5, 767.5)
    rows, columns = np.mgrid[:20, :30]
    x, y = shown.place((7, 11))
    assert shown.enlarge(rows)[round(y), round(x)] == 7
    assert shown.enlarge(columns)[round(y), round(x)] == 11


def test_outlines_enclose_their_labels():
    labels = np.zeros((20, 30), int)
    labels[5:10, 6:18] = 4
    picture = with_outlines(frame(), labels, {4: RED})
    drawn = np.argwhere((picture == RED).all(axis=-1))
    step = 768 / 20  # pixels of the picture for each row; 19.2 for each column
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    assert np.abs(low - (5 * step, 6 * 19.2)).max() <= 1
    assert np.abs(high - (10 * step - 1, 18 * 19.2 - 1)).max() <= 1
    assert not (picture[int(7.5 * step), int(12 * 19.2)] == RED).all()


def test_lines_join_their_ends():
    line = Diameter((4.0, 3.0), (15.0, 3.0), 22.0)
    picture = with_outlines(frame(), np.zeros((20, 30), int), {}, [line])
    rows, columns = np.nonzero(picture.any(axis=-1))
    assert set(columns) == {round(3.5 * 19.2 - 0.5)}
    assert abs(rows.min() - 4.5 * 38.4) <= 1
    assert abs(rows.max() - 15.5 * 38.4) <= 1


def test_heat_colours_only_where_the_map_is_strong():
    heat = np.zeros((20, 30), np.float32)
    heat[:, 15:] = 0.5
    heat[:, 20:] = 0.05
    picture = with_heat(frame(), heat, 0.5)
    assert not picture[:, :280].any()
    assert picture[:, 300:380].any()
    assert not picture[:, 400:].any()


def test_windows_map_to_grey():
    values = np.array([[-160, 40, 240, 1000]])
    assert grey_of(values, (40, 400)).tolist() == [[0, 0.5, 1, 1]]
    ramp = np.arange(1001, dtype=np.int16)[None]
    assert grey_of(ramp, None)[0, [0, 10, 500, 990, 1000]].tolist() == [0, 0, 0.5, 1, 1]


def test_captions_go_on_in_the_next_row():
    picture = np.zeros((50, 400, 3), np.uint8)
    one = with_caption(picture, [[Words("short")]])
    many = with_caption(picture, [[Words("a rather long word", RED)] * 6])
    assert one.shape[1:] == many.shape[1:] == (400, 3)
    assert one.shape[0] < many.shape[0]
    assert (with_caption(picture, [[Words("short")]]) == one).all()
    assert one[50:].any()


def page(rows: int) -> Page:
    return Page(
        title="Segmentation of $x$",
        facts=(("Patient", "Müller^Jörg"), ("Study", "a $5 study, 100 %")),
        head=("Finding", "Volume"),
        rows=tuple((f"label {n}", "1.0 ml") for n in range(rows)),
        pictures=(np.zeros((20, 30, 3), np.uint8),),
        warnings=("a long warning " * 20,),
    )


def test_long_tables_go_on_on_further_pages():
    def pages(rows):
        return len(re.findall(rb"/Type /Page\b", print_page(page(rows))))

    assert [pages(rows) for rows in (0, 22, 23, 66, 67)] == [1, 1, 2, 2, 3]


def test_a_page_printed_again_has_the_same_bytes():
    assert print_page(page(3)) == print_page(page(3))
    assert b"CreationDate" not in print_page(page(3))
