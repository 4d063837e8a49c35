"""Renders chat templates for the coordinator: one JSON object a line in, one out. Lives as long as its standard input.

Says an empty line when it is ready; then
in:  {"source": template, "variables": {...}, "date": "YYYY-MM-DD" or ""}
out: {"text": ...} or {"error": ...}
The environment has the settings of Hugging Face: sandboxed, trim_blocks, lstrip_blocks, loop controls, {% generation %}, tojson
without HTML escapes, raise_exception, strftime_now. Lists may be changed (published templates append to theirs): variables
are copies.
"""
import datetime
import json
import resource
import signal
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

SECONDS = 120  # no render takes longer
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Generation(jinja2.ext.Extension):
    """{% generation %}...{% endgeneration %} marks what the model says, for training; here it is only a scope."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True)).set_lineno(line)


def environment(date):
    def strftime_now(form):
        now = datetime.datetime.strptime(date, "%Y-%m-%d") if date else datetime.datetime.now()
        return now.strftime(form)

    env = jinja2.sandbox.SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def main():
    compiled = {}
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    print(flush=True)  # ready
    for line in sys.stdin:
        signal.alarm(SECONDS)  # the coordinator kills this process sooner, unless it is gone itself
        try:
            request = json.loads(line)
            key = (request["source"], request["date"])
            if key not in compiled:
                compiled[key] = environment(request["date"]).from_string(request["source"])
            answer = json.dumps({"text": compiled[key].render(request["variables"])})
        except Exception as error:  # whatever a template does, the answer is one line
            answer = json.dumps({"error": (str(error) or type(error).__name__)[:2000]})
        signal.alarm(0)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


main()
