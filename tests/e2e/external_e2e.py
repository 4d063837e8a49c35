#!/usr/bin/env python3
"""`atoll serve --external-ranks`: a person starts the ranks by hand, wrongly and rightly, and again when they have died."""
import os
import subprocess
import sys
import threading

from cluster import BIN, MPI_ENV, Server, alive, chat_question, descendants, end_with_us, free_port

WORKER = os.path.join(BIN, "atoll-worker")
ANSWER = "87 + 64 = 151."
failures = []


def check(condition, message):
    if not condition:
        failures.append(message)


class Ranks:
    def __init__(self, coordinator, *command):
        self.process = subprocess.Popen([*command, "--coordinator", coordinator], env={**os.environ, **MPI_ENV}, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=end_with_us)

    def end(self, seconds=60):
        """(exit code, all that was printed)"""
        try:
            output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
            failures.append(f"ranks still run after {seconds} s")
        return self.process.returncode, output


def mpirun(ranks):
    return ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), WORKER]


def main():
    coordinator = f"127.0.0.1:{free_port()}"
    server = Server(ranks=4, tp=2, args=["--external-ranks", "--control-address", coordinator])
    ranks = None
    try:
        server.wait_listening()
        for wrong, command in (("3", mpirun(3)), ("1", [WORKER]), ("6", [WORKER, "--ranks", "6"])):
            code, output = Ranks(coordinator, *command).end()
            check(code != 0 and f"{wrong} ranks were started, this coordinator wants 4" in output and f"--ranks {wrong}" in output,
                  f"{wrong} ranks: exit code {code}, {output[-500:]}")
            check(f"{wrong} ranks were started" in server.log_text(), f"the coordinator's log says nothing of {wrong} ranks")
        code, output = Ranks(coordinator, WORKER, "--ranks", "4", "--launch-id", "another").end()
        check(code != 0 and "another" in output, f"ranks of another launch: {code} {output[-500:]}")

        ranks = Ranks(coordinator, *mpirun(4))
        server.wait_ready()
        check(server.chat(**chat_question()).text == ANSWER, "four ranks under mpirun do not answer")

        # A rank dies in the middle of a stream. Whoever started the ranks starts others; the stream goes on.
        long = {**chat_question(), "ignore_eos": True, "max_tokens": 1500}
        undisturbed = server.chat(**long).text
        answers = []
        thread = threading.Thread(target=lambda: answers.append(server.chat(**long)))
        generated = server.metrics()["vllm:generation_tokens_total"]
        thread.start()
        while server.metrics()["vllm:generation_tokens_total"] < generated + 100 and thread.is_alive():
            pass
        workers = [pid for pid, name in descendants(ranks.process.pid) if name.startswith("atoll-worker")]
        os.kill(workers[2], 9)
        code, _ = ranks.end()
        check(code != 0 and not alive(workers), "ranks outlive one of them")
        check(thread.is_alive(), "the stream ended with its rank")
        ranks = Ranks(coordinator, WORKER, "--ranks", "4")  # threads this time: another transport, the same bits
        thread.join(120)
        check(answers and answers[0].text == undisturbed and answers[0].done, f"the stream across a restart: {answers and answers[0].error}")
        check(server.stop() == 0, "the coordinator's exit code")
        code, output = ranks.end()
        check(code == 0, f"ranks end with {code} when the coordinator goes: {output[-500:]}")
        server.discard_log()
    finally:
        if server.process.poll() is None:
            server.stop()
        if ranks is not None and ranks.process.poll() is None:
            ranks.process.kill()
            ranks.process.wait()
    print("\n".join(failures) or "ranks by hand: wrong ones are told why, right ones serve, others take over")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
