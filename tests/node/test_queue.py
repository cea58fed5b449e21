"""The queue: nothing is lost, and nothing is answered twice."""

import pytest

from hilum.node.queue import Queue, Result

CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
RESULT = Result("9.9", SEG, "results/1/m/1/a.dcm")


@pytest.fixture
def queue(tmp_path):
    made = Queue(tmp_path / "queue.sqlite")
    yield made
    made.close()


def settled(queue, *, now=100.0, models=("m",)):
    """Let one study with two images be ready for its models."""
    for instance in ("1.1", "1.2"):
        queue.add_instance("1", instance, CT, image=True, now=now)
    assert queue.settle(models, 10.0, now + 5) == []
    assert queue.settle(models, 10.0, now + 11) == ["1"]


def test_studies_wait_until_they_are_quiet(queue):
    settled(queue)
    assert queue.settle(("m",), 10.0, 200.0) == []
    run = queue.take_run(("m",), 200.0)
    assert (run.study, run.model, run.revision, run.attempts) == ("1", "m", 2, 1)
    assert queue.images("1") == ("1.1", "1.2")
    assert queue.take_run(("m",), 200.0) is None


def test_objects_that_are_no_images_start_nothing(queue):
    queue.add_instance("1", "5.5", SEG, image=False, now=0.0)
    assert queue.settle(("m",), 10.0, 100.0) == []
    assert queue.images("1") == ()


def test_late_images_let_a_study_run_again(queue):
    settled(queue)
    first = queue.take_run(("m",), 200.0)
    queue.add_instance("1", "1.3", CT, image=True, now=201.0)
    assert queue.settle(("m",), 10.0, 300.0) == []  # it is being predicted
    queue.finish_run(first, [RESULT], ["pacs"], 300.0)
    assert queue.settle(("m",), 10.0, 301.0) == ["1"]
    again = queue.take_run(("m",), 301.0)
    assert (again.revision, again.attempts) == (3, 1)
    assert len(queue.images("1")) == 3


def test_late_images_stop_an_attempt_that_waits(queue):
    settled(queue)
    run = queue.take_run(("m",), 200.0)
    queue.end_run(run, "waiting", "crash", at=210.0)
    queue.add_instance("1", "1.3", CT, image=True, now=211.0)
    assert queue.take_run(("m",), 212.0) is None
    assert queue.settle(("m",), 10.0, 230.0) == ["1"]
    assert queue.take_run(("m",), 230.0).attempts == 1


def test_acknowledged_results_are_never_sent_again(queue):
    settled(queue)
    for _ in range(2):
        run = queue.take_run(("m",), 200.0)
        queue.finish_run(run, [RESULT], ["pacs", "web"], 200.0)
        delivery = queue.take_delivery("pacs", 200.0)
        if delivery is not None:
            queue.end_delivery(delivery, "done", at=200.0)
        queue.add_instance("1", "1.9", CT, image=True, now=200.0)
        queue.settle(("m",), 0.0, 200.0)
    assert queue.take_delivery("pacs", 1e9) is None
    assert queue.take_delivery("web", 1e9).attempts == 1
    assert queue.is_own_result("9.9")
    assert not queue.forget_study("1", 1e9, 1e9)  # it is not finished
    assert len(queue.images("1")) == 3


def test_a_run_is_done_when_all_has_been_sent(queue):
    settled(queue)
    run = queue.take_run(("m",), 200.0)
    queue.finish_run(run, [RESULT], ["pacs", "web"], 200.0)
    states = []
    for name in ("pacs", "web"):
        states.append(queue.states(10.0, 300.0)[0].state)
        queue.end_delivery(queue.take_delivery(name, 200.0), "done", at=400.0)
    assert states == ["sending", "sending"]
    assert queue.states(10.0, 300.0)[0].state == "done"
    assert queue.finished_studies(401.0, 0.0) == ["1"]
    assert queue.finished_studies(399.0, 1e9) == []  # counted from the last acknowledgement
    assert queue.forget_study("1", 401.0, 0.0)
    assert queue.images("1") == ()
    assert queue.is_own_result("9.9")


def test_what_was_given_up_is_tried_again_on_request(queue):
    settled(queue, models=("m", "n"))
    sent, failed = queue.take_run(("m",), 200.0), queue.take_run(("n",), 200.0)
    queue.end_run(failed, "dead", "DataError", at=200.0)
    queue.finish_run(sent, [RESULT], ["pacs"], 200.0)
    queue.end_delivery(queue.take_delivery("pacs", 200.0), "dead", "refused", at=200.0)
    assert {one.state for one in queue.states(10.0, 300.0)} == {"dead"}
    assert queue.finished_studies(1e9, 199.0) == []
    assert queue.retry_dead(300.0) == 2
    assert queue.take_run(("m", "n"), 300.0).model == "n"
    assert queue.take_run(("m", "n"), 300.0) is None
    assert queue.take_delivery("pacs", 300.0).attempts == 1


@pytest.mark.parametrize("given_up", ["run", "delivery"])
def test_what_was_given_up_is_kept_for_its_own_time(queue, given_up):
    settled(queue, models=("m", "n"))
    sent, failed = queue.take_run(("m",), 200.0), queue.take_run(("n",), 200.0)
    queue.finish_run(sent, [RESULT], ["pacs"], 200.0)
    state = "dead" if given_up == "delivery" else "done"
    queue.end_delivery(queue.take_delivery("pacs", 200.0), state, at=500.0)
    queue.end_run(failed, "dead" if given_up == "run" else "done", "", at=500.0)
    assert queue.finished_studies(1e9, 499.0) == []
    assert not queue.forget_study("1", 1e9, 499.0)
    assert queue.finished_studies(1e9, 501.0) == ["1"]
    assert queue.forget_study("1", 1e9, 501.0)
    assert queue.retry_dead(600.0) == 0  # the files are gone
    assert queue.is_own_result("9.9")


def test_what_a_former_version_gave_up_is_kept(queue):
    settled(queue)
    queue.end_run(queue.take_run(("m",), 200.0), "dead", "crash", at=0.0)  # it wrote no time
    assert queue.finished_studies(1e9, 1e9) == []
    assert not queue.forget_study("1", 1e9, 1e9)


def test_interrupted_runs_resume_as_attempts(queue, tmp_path):
    settled(queue)
    assert queue.take_run(("m",), 200.0).attempts == 1
    again = Queue(tmp_path / "queue.sqlite")  # the first was killed
    assert again.resume(201.0) == 1
    run = again.take_run(("m",), 201.0)
    assert run.attempts == 2
    again.return_run(run, 202.0)  # a clean stop is no attempt
    assert again.take_run(("m",), 202.0).attempts == 2
    again.close()


def test_senders_that_a_crash_interrupted_have_time_to_go_on(queue):
    queue.add_instance("1", "1.1", CT, image=True, now=0.0)
    queue.resume(100.0)
    assert queue.settle(("m",), 10.0, 105.0) == []
    assert queue.settle(("m",), 10.0, 111.0) == ["1"]


def test_changes_are_kept_whole_or_not_at_all(queue):
    settled(queue)
    run = queue.take_run(("m",), 200.0)
    with pytest.raises(AttributeError):
        queue.finish_run(run, [RESULT, None], ["pacs"], 200.0)
    assert queue.take_delivery("pacs", 1e9) is None
    assert queue.counts()["runs"] == {"received": 0, "predicting": 1}
