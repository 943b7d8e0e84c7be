"""Chat templates in miniature: each shows tools, writes calls and takes their results as a family of models does."""

from __future__ import annotations

QWEN = """
{%- if tools %}<|im_start|>system
# Tools
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}<|im_start|>assistant
{{ m.content }}
{%- for call in m.tool_calls or [] %}
{%- if m.content or not loop.first %}{{ '\\n' }}{% endif %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}<|im_end|>
{% elif m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

LLAMA = """{{- bos_token }}
{%- for m in messages %}
{%- if m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('one call at once!') }}{% endif %}
{%- set call = m.tool_calls[0].function %}{{ '<|start|>assistant<|end|>\\n\\n' }}
{{- '{"name": "' + call.name + '", ' }}{{ '"parameters": ' }}{{ call.arguments | tojson }}{{ '}' }}{{ '<|eot|>' }}
{%- elif m.role == 'tool' %}{{ '<|start|>ipython<|end|>\\n\\n' }}{{ m.content | tojson }}{{ '<|eot|>' }}
{%- else %}{{ '<|start|>' + m.role + '<|end|>\\n\\n' }}
{%- if loop.last and tools %}Functions: {% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}{% endif %}
{{- m.content | trim }}{{ '<|eot|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant<|end|>\\n\\n' }}{% endif %}"""

MISTRAL = """{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'user' %}
{%- if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {{ m.content }}[/INST]
{%- elif m.tool_calls %}[TOOL_CALLS] [
{%- for call in m.tool_calls %}
{%- if call.id is not defined or call.id | length != 9 %}{{ raise_exception('ids have length 9!') }}{% endif %}
{{- '{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}
{{- ', "id": "' + call.id + '"}' }}{{ ']</s>' if loop.last else ', ' }}
{%- endfor %}
{%- elif m.role == 'assistant' %} {{ m.content }}</s>
{%- elif m.role == 'tool' %}
{%- if m.tool_call_id | length != 9 %}{{ raise_exception('ids have length 9!') }}{% endif %}
{{- '[TOOL_RESULTS] {"content": ' }}{{ m.content | tojson }}
{{- ', "call_id": "' + m.tool_call_id + '"}' }}[/TOOL_RESULTS]
{%- else %}{{ raise_exception('Only user, assistant and tool roles are supported') }}
{%- endif %}
{%- endfor %}"""

MISTRAL_ARGS = """{{- bos_token }}
{%- if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}[INST]{{ m.content }}[/INST]
{%- elif m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]
{%- elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]
{%- else %}{{ m.content }}
{%- for call in m.tool_calls or [] %}[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}
{%- endfor %}</s>
{%- endif %}
{%- endfor %}"""

DEEPSEEK = """{{- bos_token }}
{%- for tool in tools or [] %}{{ tool.function | tojson }}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'user' %}{{ '<|User|>' + m.content }}
{%- elif m.role == 'system' %}{{ m.content }}
{%- elif m.role == 'tool' %}{{ '<|tool_output|>' + m.content + '<|tool_output_end|>' }}
{%- elif m.tool_calls %}{{ '<|Assistant|>' }}
{%- for call in m.tool_calls %}
{{- '<|calls|>' if loop.first else '\\n' }}{{ '<|call|>' + call.type + '<|sep|>' + call.function.name }}
{{- '\\n```json\\n' + call.function.arguments + '\\n```<|call_end|>' }}
{%- endfor %}{{ '<|calls_end|></s>' }}
{%- else %}{{ '<|Assistant|>' + m.content + '</s>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"""

XML = """
{%- for tool in tools or [] %}{{ tool | tojson }}{% endfor %}
{%- for m in messages %}<|im_start|>{{ m.role + '\\n' + m.content }}
{%- for call in m.tool_calls or [] %}{{ '<tool_call>\\n<function=' + call.function.name + '>\\n' }}
{%- for name, value in call.function.arguments | items %}
{{- '<parameter=' + name + '>\\n' }}{{ value }}{{ '\\n</parameter>\\n' }}
{%- endfor %}{{ '</function>\\n</tool_call>' }}
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

PLAIN = """
{%- for m in messages %}<|im_start|>{{ m.role + '\\n' + m.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

MARKUP = {
    "qwen": ("<|im_start|>",),
    "llama": ("<|start|>", "<|end|>", "<|eot|>"),
    "mistral": ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "</s>"),
    "mistral args": ("[INST]", "[/INST]", "[TOOL_CALLS]", "[ARGS]", "</s>"),
    "deepseek": (
        *("<|User|>", "<|Assistant|>", "<|calls|>", "<|call|>", "<|sep|>", "<|call_end|>", "<|calls_end|>"),
        *("<think>", "</think>", "</s>"),
    ),
    "xml": ("<|im_start|>",),
    "plain": ("<|im_start|>",),
}
TEMPLATES = {
    "qwen": QWEN,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "mistral args": MISTRAL_ARGS,
    "deepseek": DEEPSEEK,
    "xml": XML,
    "plain": PLAIN,
}

_TURN = """
{%- for tool in tools or [] %}{{ tool | tojson }}{% endfor %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.tool_call_id }}{{ m.content }}CALLS<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

OTHERS = {
    "ids of a name and a number": """
{%- if m.tool_calls %}<|tool_calls_section_begin|>
{%- for c in m.tool_calls %}<|tool_call_begin|>{{ c.id }}<|tool_call_argument_begin|>{{ c.function.arguments | tojson }}
{{- '<|tool_call_end|>' }}
{%- endfor %}<|tool_calls_section_end|>{% endif %}""",
    "one tag around several calls": """
{%- if m.tool_calls %}<minimax:tool_call>
{%- for c in m.tool_calls %}{{ '\\n<invoke name="' + c.function.name + '">' }}
{%- for k, v in c.function.arguments.items() %}
{{- '\\n<parameter name="' + k + '">' }}{{ v if v is string else v | tojson }}{{ '</parameter>' }}
{%- endfor %}{{ '\\n</invoke>' }}
{%- endfor %}{{ '\\n</minimax:tool_call>' }}{% endif %}""",
    "tags that say the type": """
{%- if m.tool_calls %}<｜DSML｜function_calls>
{%- for c in m.tool_calls %}{{ '\\n<｜DSML｜invoke name="' + c.function.name + '">' }}
{%- for k, v in c.function.arguments.items() %}
{{- '\\n<｜DSML｜parameter name="' + k + '" string="' + ('true' if v is string else 'false') + '">' }}
{{- v if v is string else v | tojson }}{{ '</｜DSML｜parameter>' }}
{%- endfor %}{{ '\\n</｜DSML｜invoke>' }}
{%- endfor %}{{ '\\n</｜DSML｜function_calls>' }}{% endif %}""",
    "the name behind the arguments": """
{%- if m.tool_calls %}<|tool_call|>[
{%- for c in m.tool_calls %}{{ '{"arguments": ' }}{{ c.function.arguments | tojson }}{{ ', "name": "' }}
{{- c.function.name + '"}' + (', ' if not loop.last else '') }}
{%- endfor %}]{% endif %}""",
    "arguments as they are given": """
{%- for c in m.tool_calls or [] %}<fn>{{ c.function.name }}|{{ c.function.arguments }}</fn>{% endfor %}""",
    "an error": "{{ 1 // 0 if m.tool_calls }}",
    "a field that is not there": "{{ m.tool_calls[0].nothing.more if m.tool_calls }}",
    "tags of the tool's name": """
{%- for c in m.tool_calls or [] %}<{{ c.function.name }}>{{ c.function.arguments | tojson }}</{{ c.function.name }}>
{%- endfor %}""",
    "lines of pairs": """
{%- for c in m.tool_calls or [] %}CALL {{ c.function.name }}
{%- for k, v in c.function.arguments.items() %}
{{ k }}: {{ v }}
{%- endfor %}
END
{%- endfor %}""",
}
OTHERS = {name: _TURN.replace("CALLS", calls) for name, calls in OTHERS.items()}
"""Further ways to write calls."""
