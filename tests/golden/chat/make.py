"""Write templates.json: conversations rendered by transformers' apply_chat_template (transformers 5.24, jinja2 3.1.6).

    python3 tests/golden/chat/make.py

The templates are written for this test; each uses what published templates of a kind use.
"""

import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

TEMPLATES = {
    # One line, a default system message.
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a careful assistant.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # Roles must alternate; the system message joins the first message of the user.
    "inst": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
        "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
        "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if loop.index0 == 0 and system_message != false %}"
        "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    # Several lines with indentation, namespaces, tests of what is defined, JSON.
    "header": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message is its own block. -#}
{%- set ns = namespace(count=0) %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " ~ date_string ~ "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- set ns.count = ns.count + 1 %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{{- ns.count }}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    # Refuses a system message.
    "turns": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    # Reasoning of earlier answers is cut; the messages are searched from the end.
    "reasoning": """{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and reasoning %}
            {{- '[' + message.role + ']\\n<think>' + reasoning.strip('\\n') + '</think>' + content }}
        {%- else %}
            {{- '[' + message.role + ']\\n' + content }}
        {%- endif %}
    {%- else %}
        {{- '[' + message.role + ']\\n' + content.upper() + '|' + content.replace('a', 'A') }}
    {%- endif %}
    {{- '\\n' if loop.last else '~\\n' }}
{%- endfor %}
{%- if add_generation_prompt and (enable_thinking is not defined or enable_thinking is false) %}
    {{- '[assistant]\\n' }}
{%- endif %}
""",
    # A macro, JSON, the tags of generated text, loop controls, filters.
    "json": """{% macro turn(message) %}
<{{ message.role }}>{{ message | tojson }}</{{ message.role }}>
{% endmacro %}
{{ messages | map(attribute='role') | join(', ') }}
  {% for message in messages %}
    {% if message.role == 'system' %}
        {% continue %}
    {% endif %}
    {% if message.role == 'assistant' %}
{% generation %}
{{ message.content | tojson(indent=2) }}{{ eos_token }}
{%- endgeneration %}

    {% else %}
{{ turn(message) }}
{{- message.items() | list | length }} {{ message.get('name', 'nobody') }} {{ unk_token }}
    {% endif %}
  {% endfor %}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ '-' * 3 }}{{ [1, 2.5, true, none] | tojson }}
""",
}

CONVERSATIONS = {
    "one": [("user", "Hello")],
    "system": [("system", "Be brief."), ("user", " What is 1 < 2 & \"3\"? ")],
    "several": [
        ("system", "Sei kurz.\n"),
        ("user", "Grüß dich, 世界 🙂"),
        ("assistant", "<think>\nHm.\n</think>\n\nHallo!"),
        ("user", "And\nnow?"),
    ],
    "answered": [("user", "a"), ("assistant", "<think>b</think>c"), ("user", "d"), ("assistant", "<think>e</think>f")],
    "wrong_order": [("user", "a"), ("user", "b")],
}


def main():
    cases = []
    for template, source in TEMPLATES.items():
        for name, conversation in CONVERSATIONS.items():
            messages = [{"role": role, "content": content} for role, content in conversation]
            case = {"template": template, "conversation": name, "messages": messages}
            try:
                rendered, _ = render_jinja_template(
                    conversations=[messages], chat_template=source, add_generation_prompt=True, **TOKENS
                )
                case["text"] = rendered[0]
            except Exception as error:
                case["error"] = str(error)
            cases.append(case)
    document = {"tokens": TOKENS, "templates": TEMPLATES, "cases": cases}
    path = pathlib.Path(__file__).with_name("templates.json")
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n")


main()
