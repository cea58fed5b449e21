"""The phase of a CT series, by its words, by the start of the contrast agent, or not at all."""

import pytest

from hilum.dicom.phase import phase_in, phase_of


@pytest.mark.parametrize(
    ("words", "phase"),
    [
        ("Abdomen nativ 5.0 B30f", "native"),
        ("LIVER_NON-CONTRAST_2.5", "native"),
        ("Thorax w/o contrast", "native"),
        ("NCCT head", "native"),
        ("Abd late arterial 1.25", "arterial"),
        ("AX ART", "arterial"),
        ("Portal Venous 5.0", "portal"),
        ("abdomen pv 3mm", "portal"),
        ("Leber portalvenös", "portal"),
        ("urogram delayed 10 min", "delayed"),
        ("Abdomen spät-arteriell", "arterial"),
        ("aortic phase 1.0", "arterial"),
        ("DELAYED 2.0 CT AORTIC STENT 3 PHASE", "delayed"),
        ("PLAIN CT aortic", "native"),
        ("DELAYED CTA arterial", ""),
        ("late phase ART", ""),
        ("arterial and portal", ""),
        ("cartilage", ""),
        ("ventral hernia", ""),
        ("Abdomen 5.0", ""),
        # German
        ("Abdomen spätarteriell 2.0", "arterial"),
        ("OB spaetarteriell", "arterial"),
        ("spa\u0308tarteriell", "arterial"),  # the umlaut as two characters, as macOS writes it
        ("Leber früharteriell", "arterial"),
        ("späte arterielle Phase", "arterial"),
        ("Abdomen portal-venös 3 mm", "portal"),
        ("Thx/Abd venös", "portal"),
        ("Abdomen venoes", "portal"),
        ("Leber VEN 5.0", "portal"),
        ("Niere Spätphase", "delayed"),
        ("Abdomen spät", "delayed"),
        ("Spatphase", "delayed"),
        ("Ausscheidungsphase", "delayed"),
        ("Abdomen ohne KM", "native"),
        ("Schädel o. KM", "native"),
        ("Nativphase", "native"),
        ("Abdomen spätvenös", ""),
        ("venöse Spätphase", ""),
        ("Spätphase, arteriell", ""),
        ("nativ/art/pv", ""),
        ("Abdomen mit/ohne KM", ""),
        # French
        ("TAP sans injection", "native"),
        ("ABDO SANS IV", "native"),
        ("Crâne non injecté", "native"),
        ("temps artériel", "arterial"),
        ("ABDOMEN ARTERIELLE", "arterial"),
        ("artériel tardif", "arterial"),
        ("temps portal", "portal"),
        ("temps veineux", "portal"),
        ("phase porte", "portal"),
        ("temps tardif", "delayed"),
        ("phase d'équilibre", "delayed"),
        ("avec et sans injection", ""),
        # Spanish
        ("ABDOMEN SIN CONTRASTE", "native"),
        ("TC simple", "native"),
        ("fase arterial tardía", "arterial"),
        ("fase venosa", "portal"),
        ("fase tardía", "delayed"),
        ("fase excretora", "delayed"),
        # Italian
        ("addome senza mdc", "native"),
        ("ADDOME SENZA M.D.C.", "native"),
        ("fase basale", "native"),
        ("arteriosa", "arterial"),
        ("fase arteriosa tardiva", "arterial"),
        ("portale", "portal"),
        ("fase venosa portale", "portal"),
        ("tardiva", "delayed"),
        ("con e senza mdc", ""),
        # Dutch
        ("Abdomen blanco", "native"),
        ("zonder contrast", "native"),
        ("arteriële fase", "arterial"),
        ("laat-arterieel", "arterial"),
        ("portoveneus", "portal"),
        ("portaal veneuze fase", "portal"),
        ("late fase", "delayed"),
        # English, and words that look like a phase
        ("early arterial", "arterial"),
        ("late arterial and delayed", ""),
        ("late venous", ""),
        ("CT ABD W/WO CONTRAST", ""),
        ("with and without iv contrast", ""),
        ("no contrast", "native"),
        ("arteriovenous malformation", ""),
        ("spatial resolution test", ""),
        ("intravenöses Kontrastmittel", ""),
        ("portable chest", ""),
        # both, with and without the agent
        ("CT with or without contrast", ""),
        ("Kopf mit bzw. ohne KM", ""),
        ("crâne avec ou sans injection", ""),
        ("addome con o senza mdc", ""),
        ("Thorax nativ/KM", ""),
        ("Kopf nativ +/- KM", ""),
        ("Schädel nativ und mit KM", ""),
        ("non contrast and contrast", ""),
        ("pre contrast/post contrast", ""),
        ("Kopf nativ, vor KM", "native"),
        ("arterio-venöse Malformation", ""),
        ("Herz LA/PV", ""),
        ("PV ablation", ""),
        ("sans produit de contraste", "native"),
        ("CT HEAD W/O", "native"),
        ("W/O MAR", ""),
        ("LWS nativ", "native"),
        ("pulsus tardus", ""),
    ],
)
def test_words_name_a_phase(words, phase):
    assert phase_in(words) == phase


@pytest.mark.parametrize(
    ("bolus", "acquired", "phase"),
    [
        ("101500", "101000", "native"),
        ("101500.00", "101530.5", "arterial"),
        ("101500", "101610", "portal"),
        ("101500", "102000", "delayed"),
        ("235930", "000010", "arterial"),
        ("000010", "235930", "native"),
        ("", "102000", "contrast"),
        ("1015", "102000", "contrast"),
    ],
)
def test_the_start_of_the_agent_tells_where_words_do_not(bolus, acquired, phase):
    assert phase_of("Abdomen", "", "Ultravist", bolus=bolus, acquired=acquired) == phase
    assert phase_of("Abdomen nativ", "", "Ultravist", bolus=bolus, acquired=acquired) == "native"


def test_an_agent_that_is_not_stated_says_nothing():
    assert phase_of("Abdomen", "", "", bolus="", acquired="101500") == ""


@pytest.mark.parametrize(
    ("description", "protocol", "phase"),
    [
        ("Abdomen venös 5.0", "Leber_nativ_art_ven", "portal"),
        ("Abdomen 5.0", "Leber portalvenös", "portal"),
        ("Abdomen 5.0", "Leber_nativ_art_ven", ""),
        ("arteriell, venös", "Leber nativ", ""),
    ],
)
def test_the_description_counts_before_a_protocol_of_all_phases(description, protocol, phase):
    assert phase_of(description, protocol, "", bolus="", acquired="") == phase
