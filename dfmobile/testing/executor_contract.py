"""What every executor must do; inherit it in your own tests.

Example:
    >>> class TestMyExecutor(ExecutorContract):
    ...     @pytest.fixture
    ...     def executor(self):
    ...         with MyExecutor(workers=2) as executor:
    ...             yield executor
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

from dfmobile.errors import DfmobileError, EvaluationError, ExecutionError, InputError, PluginError
from dfmobile.execution.base import Executor

FUNCTIONS = "dfmobile.testing.executor_functions"


class ExecutorContract:
    """Inherit, and define a fixture ``executor`` that yields an open pool of two workers."""

    def test_json_comes_back_as_it_went(self, executor: Executor) -> None:
        """Every JSON type, unicode and floats survive."""
        payload: dict[str, Any] = {"a": [1, 2.5, None, True, "×≺\n"], "b": {"c": 0.1 + 0.2}}
        assert executor.submit(f"{FUNCTIONS}:echo", payload).result() == payload

    def test_many_calls_each_get_their_own_result(self, executor: Executor) -> None:
        """Answers are never mixed up."""
        futures = [executor.submit(f"{FUNCTIONS}:echo", {"number": number}) for number in range(20)]
        assert [future.result()["number"] for future in futures] == list(range(20))

    def test_tells_its_number_of_workers(self, executor: Executor) -> None:
        """The fixture asked for two."""
        assert executor.workers == 2

    def test_one_thread_a_worker(self, executor: Executor) -> None:
        """Numeric libraries are told to use one thread."""
        assert executor.submit(f"{FUNCTIONS}:describe", {}).result()["threads"] == "1"

    def test_printing_does_not_disturb(self, executor: Executor) -> None:
        """Output of the function, of C code and of child processes stays out of the results."""
        assert executor.submit(f"{FUNCTIONS}:chatter", {"a": 1}).result() == {"a": 1, "read": ""}

    def test_an_expected_error_keeps_class_message_and_hint(self, executor: Executor) -> None:
        """Users see the error as if it had been raised here."""
        future = executor.submit(f"{FUNCTIONS}:refuse", {"message": "loss is NaN", "hint": "lower the rate"})
        with pytest.raises(EvaluationError, match=r"^loss is NaN$") as caught:
            future.result()
        assert caught.value.hint == "lower the rate"

    def test_an_unexpected_error_names_function_and_cause(self, executor: Executor) -> None:
        """A bug in a function is told apart from bad input."""
        future = executor.submit(f"{FUNCTIONS}:fail", {"message": "oh"})
        with pytest.raises(ExecutionError, match=r"executor_functions:fail failed.*ZeroDivisionError: oh"):
            future.result()

    @pytest.mark.parametrize("function", ["return_a_list", "return_nan"])
    def test_a_result_that_is_not_json_is_an_error(self, executor: Executor, function: str) -> None:
        """No silent conversion."""
        with pytest.raises(DfmobileError, match=function):
            executor.submit(f"{FUNCTIONS}:{function}", {}).result()

    @pytest.mark.parametrize("function", [f"{FUNCTIONS}:missing", "no_such_module_anywhere:function"])
    def test_an_unknown_function_is_an_error(self, executor: Executor, function: str) -> None:
        """Naming it."""
        with pytest.raises(PluginError, match=function):
            executor.submit(function, {}).result()

    @pytest.mark.parametrize("function", ["no_colon", "a:b; import os", ":f", "m:"])
    def test_a_malformed_name_is_refused_at_once(self, executor: Executor, function: str) -> None:
        """Before any worker sees it."""
        with pytest.raises(InputError, match="function"):
            executor.submit(function, {})

    @pytest.mark.parametrize("value", [float("nan"), object(), b"bytes"])
    def test_a_payload_that_is_not_json_is_refused_at_once(self, executor: Executor, value: object) -> None:
        """Before any worker sees it."""
        with pytest.raises(InputError, match="not JSON"):
            executor.submit(f"{FUNCTIONS}:echo", {"value": value})

    def test_a_dead_worker_fails_its_call_only(self, executor: Executor) -> None:
        """The error names the signal and the last words; the pool goes on at full strength."""
        death = executor.submit(f"{FUNCTIONS}:die", {"word": "out of luck", "signal": int(signal.SIGSEGV)})
        others = [executor.submit(f"{FUNCTIONS}:echo", {"number": number}) for number in range(4)]
        with pytest.raises(ExecutionError, match=r"signal 11 \(SIGSEGV\).*out of luck"):
            death.result()
        assert [future.result()["number"] for future in others] == [0, 1, 2, 3]

    def test_an_exit_code_is_named(self, executor: Executor) -> None:
        """A worker that leaves without an answer has died, whatever its exit code."""
        with pytest.raises(ExecutionError, match=r"exit code 3.*bye"):
            executor.submit(f"{FUNCTIONS}:die", {"word": "bye", "code": 3}).result()

    def test_a_closed_pool_takes_nothing(self, executor: Executor) -> None:
        """Closing twice is fine."""
        executor.close()
        executor.close()
        with pytest.raises(ExecutionError, match="closed"):
            executor.submit(f"{FUNCTIONS}:echo", {})
