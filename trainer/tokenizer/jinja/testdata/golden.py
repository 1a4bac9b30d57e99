#!/usr/bin/env python3
"""Renders chat templates with Python's jinja2, set up as transformers does, and writes what came out as JSON.

    golden.py DIR > golden.json      # DIR holds *.jinja files, of real models for example
    SHOAL_CHAT_GOLDEN=golden.json go test ./trainer/tokenizer/jinja -run Corpus -v

Each template meets each conversation below, with and without the invitation to answer. "marked" is the text with
\\x01 and \\x02 around what generation blocks made.
"""
import datetime
import glob
import json
import os
import sys

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TODAY = datetime.datetime(2024, 7, 26)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "end_of_turn": "<|im_end|>"}


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller):
        text = caller()
        return "\x01" + text + "\x02" if self.environment.marks else text


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def refuse(message):
    raise TemplateError(message)


def environment(marks):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.marks = marks
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda form: TODAY.strftime(form)
    return env


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.\nNow & <here>",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "Where, e.g. \"Zürich\""},
                "unit": {"type": "string", "enum": ["C", "F"]},
                "days": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
                "deep": {"type": "object", "properties": {"a": {"type": ["number", "null"]}}, "required": ["a"]},
            },
            "required": ["place"],
        },
    },
}
SUM = {"type": "function", "function": {"name": "sum", "description": "", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, ident="abcdefghi"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


ARGUMENTS = {"place": "Zürich ☀", "unit": "C", "days": [1, 2.5, True, None], "deep": {"b": {}, "a": []}}
TALK = [user("Hello"), assistant("Hi, \"you\" <there>!"), user("  And now?\n"), assistant("\n So be it. \n\n")]
SYSTEM = {"role": "system", "content": " Be brief.\n"}
CALLS = [
    user("Is it warm?"),
    assistant("", tool_calls=[call("weather", ARGUMENTS)]),
    {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": "{\"degrees\": 21.0}"},
    assistant("It is 21 °C."),
    user("Thanks"),
    assistant("You are welcome."),
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": " One "}, {"type": "text", "text": "two"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "three"}]},
]
CONVERSATIONS = {
    "one": {"messages": [user("Hello, wörld")]},
    "talk": {"messages": TALK},
    "system": {"messages": [SYSTEM] + TALK},
    "ends with user": {"messages": [SYSTEM] + TALK + [user("So?")]},
    "thoughts": {"messages": [user("1+1?"), assistant("<think>\nOne and one.\n</think>\n\nTwo."), user("2+2?"),
                              assistant("Four.", reasoning_content="Two and two.", thinking="Two and two.")]},
    "tools": {"messages": [user("Is it warm?")], "tools": [WEATHER, SUM]},
    "calls": {"messages": CALLS, "tools": [WEATHER, SUM]},
    "calls, system": {"messages": [SYSTEM] + CALLS, "tools": [WEATHER]},
    "calls, null": {"messages": [CALLS[0], {**CALLS[1], "content": None}] + CALLS[2:], "tools": [WEATHER]},
    "calls, two": {"messages": [CALLS[0], assistant("Let me see.", tool_calls=[call("weather", {"place": "A"}), call("sum", {}, "jklmnopqr")]),
                                CALLS[2], {**CALLS[2], "name": "sum", "tool_call_id": "jklmnopqr", "content": "3"}, CALLS[3]], "tools": [WEATHER, SUM]},
    "calls, string": {"messages": [CALLS[0], assistant("", tool_calls=[call("weather", json.dumps(ARGUMENTS))])] + CALLS[2:], "tools": [WEATHER]},
    "parts": {"messages": PARTS},
    "parts, system": {"messages": [{"role": "system", "content": [{"type": "text", "text": "S"}]}] + PARTS},
    "thinking off": {"messages": TALK, "enable_thinking": False},
    "same role twice": {"messages": [user("a"), user("b"), assistant("c"), assistant("d")]},
    "assistant first": {"messages": [assistant("c"), user("b")]},
    "empty": {"messages": [user(""), assistant("")]},
    "odd role": {"messages": [user("a"), {"role": "critic", "content": "b"}]},
    "developer": {"messages": [{"role": "developer", "content": "D"}] + TALK},
}


def render(env, source, more):
    try:
        return {"want": env.from_string(source).render(**{"tools": None, "documents": None, **TOKENS, **more})}
    except Exception as e:  # whatever it is, ours has to fail as well
        return {"error": f"{type(e).__name__}: {e}"[:300]}


def main():
    cases, sources = [], {}
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.jinja"))):
        file = os.path.basename(path)
        source = sources[file] = open(path, encoding="utf-8").read()
        for name, vars in CONVERSATIONS.items():
            for answer in (False, True):
                more = {**vars, "add_generation_prompt": answer}
                out = render(environment(False), source, more)
                marked = render(environment(True), source, more).get("want", "")
                cases.append({"template": file, "name": name, "answer": answer, **out})
                if marked not in ("", out.get("want")):
                    cases[-1]["marked"] = marked
    json.dump({"tokens": TOKENS, "sources": sources, "conversations": CONVERSATIONS, "cases": cases}, sys.stdout, ensure_ascii=False, indent=0)


main()
