"""The one flat text of a conversation with the built-in model, and the sentences it is trained to say.

Every function here is the Python twin of chat_template.jinja; tests/builtin compare the two.
"""

from __future__ import annotations

from agentkit.models.builtin.copying import (
    ACTION,
    ACTION_INPUT,
    CALCULATE,
    CANNOT,
    END,
    FINAL,
    KNOW,
    LOOK_UP,
    NOTHING,
    SEARCH,
)  # fmt: skip

BOS, EOS, USER, ASSISTANT, PAD = "<s>", "<|end|>", "<|user|>", "<|assistant|>", "<pad>"
SPECIAL_TOKENS = (PAD, BOS, EOS, USER, ASSISTANT)
# Frequent skeletons are one token each; none may begin or end inside a word that is copied.
SKELETONS = (
    "Thought:",
    f" {LOOK_UP}",
    f" {CALCULATE}",
    f" {KNOW}",
    f" {CANNOT}",
    f" {NOTHING}",
    FINAL,
    ACTION,
    ACTION_INPUT,
    END,
    "\nObservation:",
)
CHAT_TEMPLATE = """{%- set ns = namespace(started=false) -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- message['content'] -}}
{%- elif message['role'] == 'user' -%}
{%- if ns.started and message['content'].startswith('Observation:') -%}
{{- '\\n' + message['content'] + '\\n' -}}
{%- else -%}
{%- if ns.started -%}{{- '<|end|>\\n' -}}{%- endif -%}
{%- set parts = message['content'].split('\\n\\nThought:') -%}
{{- '<|user|>\\n' + parts[0] + '\\n<|assistant|>\\n' -}}
{%- if parts | length > 1 -%}
{%- set rest = 'Thought:' + (parts[1:] | join('\\n\\nThought:')) -%}
{{- rest[:-1] if rest.endswith('Thought: ') else rest -}}
{%- endif -%}
{%- endif -%}
{%- set ns.started = true -%}
{%- endif -%}
{%- endfor -%}
"""


def action(tool: str, tool_input: str) -> str:
    """One turn that looks something up or calculates."""
    thought = LOOK_UP if tool == SEARCH else CALCULATE
    return f"Thought: {thought}{tool_input}{ACTION}{tool}{ACTION_INPUT}{tool_input}{END}"


def final(answer: str, thought: str = KNOW) -> str:
    """The last turn."""
    return f"Thought: {thought}{FINAL}{answer}"
