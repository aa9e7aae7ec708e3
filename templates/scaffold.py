"""A new pack to start from: small, complete and free of lint errors, to be written over line by line.

In: a pack's name. Out: its folder with `pack.yaml` and `examples.jsonl`. Refused: names of another form, and
folders that are there already.
"""

import re
from pathlib import Path

from zhiling.errors import UserError, one_line
from zhiling.store import atomic_folder, write_jsonl, write_text

NAME = re.compile(r"(zh|en)/[a-z][a-z0-9_]*")
GUIDE = """\
# A pack: what a labelled row says to a model. Change everything below to suit your task, then run
#   zhiling template lint {folder}
#   zhiling template preview {folder}
#   zhiling template test {folder} --update
# The text that a model reads is the prompt with the completion right behind it. End a prompt with punctuation.
"""
ZH = """\
pack: {name}
version: 0.1.0
summary: 判断一句话是在提问还是在陈述
task: classification        # `zhiling template list` 看别的包用了哪些 task
language: zh
license: Apache-2.0
columns: {{text: string, label: label}}     # 类型：string, label, strings, spans, json
labels: {{question: 提问, statement: 陈述}}   # 标签: 写给模型看的词
metrics: [accuracy, f1_macro]
templates:
  - name: ask                     # 直接问
    kind: question
    prompt: |-
      下面这句话是在提问，还是在陈述？
      {{{{ text }}}}
      答：
    completion: "{{{{ verbalizer[label] }}}}"

  - name: pick                    # 从选项里挑，顺序每行随机
    kind: either_or
    prompt: |-
      句子：“{{{{ text }}}}”
      请从“{{{{ choices | join('”和“') }}}}”中选出合适的一项：
    completion: "{{{{ verbalizer[label] }}}}"
    shuffle_choices: true

  - name: judge                   # 判断一个说法对不对
    kind: judge
    prompt: |-
      有人说，“{{{{ text }}}}”这句话是在{{{{ verbalizer[labels[draw % 2]] }}}}。
      这个说法对吗？请回答“对”或“不对”：
    completion: "{{{{ '对' if labels[draw % 2] == label else '不对' }}}}"
    choices: [对, 不对]

  - name: as_json                 # 输出 JSON；row 里的文字要用 json 过滤器引起来
    kind: json
    prompt: |-
      判断句子的语气，输出 JSON，键为 type，值为 question 或 statement。
      输入：{{{{ text | json }}}}
      输出：
    completion: '{{"type": "{{{{ label }}}}"}}'
    choices:
      question: '{{"type": "question"}}'
      statement: '{{"type": "statement"}}'

  - name: write_one               # 反过来：由标签写句子
    kind: inverted
    inverted: true
    prompt: |-
      请写一句{{{{ verbalizer[label] }}}}的话：
    completion: "{{{{ text }}}}"
"""
EN = """\
pack: {name}
version: 0.1.0
summary: Tell whether a sentence asks or states
task: classification        # `zhiling template list` shows the tasks of other packs
language: en
license: Apache-2.0
columns: {{text: string, label: label}}     # types: string, label, strings, spans, json
labels: {{question: question, statement: statement}}   # label: the word that a model reads
metrics: [accuracy, f1_macro]
templates:
  - name: ask                     # a plain question
    kind: question
    prompt: |-
      Is the sentence below a question or a statement?
      {{{{ text }}}}
      Answer:
    completion: "{{{{ verbalizer[label] }}}}"

  - name: pick                    # one of the choices, in an order drawn for each row
    kind: either_or
    prompt: |-
      "{{{{ text }}}}"
      Choose the word that fits: {{{{ choices | join(' or ') }}}}?
    completion: "{{{{ verbalizer[label] }}}}"
    shuffle_choices: true

  - name: judge                   # is a claim right?
    kind: judge
    prompt: |-
      Someone calls this a {{{{ verbalizer[labels[draw % 2]] }}}}: "{{{{ text }}}}"
      Are they right? Yes or no:
    completion: "{{{{ 'yes' if labels[draw % 2] == label else 'no' }}}}"
    choices: ["yes", "no"]

  - name: as_json                 # JSON out; the filter `json` quotes the row's text
    kind: json
    prompt: |-
      Classify the input. Reply in JSON with the key type, either question or statement.
      Input: {{{{ text | json }}}}
      Output:
    completion: '{{"type": "{{{{ label }}}}"}}'
    choices:
      question: '{{"type": "question"}}'
      statement: '{{"type": "statement"}}'

  - name: write_one               # the other way round: the label asks for the text
    kind: inverted
    inverted: true
    prompt: |-
      Write one {{{{ verbalizer[label] }}}}:
    completion: "{{{{ text }}}}"
"""
EXAMPLES = {
    "zh": [
        ("图书馆几点关门", "question"), ("昨天夜里下了一场大雨。", "statement"), ("你怎么还没睡？", "question"),
        ("他说“明天见”，然后挂了电话。", "statement"), ("这难道不奇怪吗", "question"), ("好。", "statement"),
        ("请问去火车站坐几路车？", "question"), ("我不知道他为什么生气。", "statement"),
    ],
    "en": [
        ("When does the library close", "question"), ("It rained all night.", "statement"),
        ("Why are you still up?", "question"), ('She said "see you" and hung up.', "statement"),
        ("Isn't that odd", "question"), ("Fine.", "statement"),
        ("Which bus goes to the station, please?", "question"), ("I do not know why he left.", "statement"),
    ],
}


def new_pack(name: str, root: Path) -> Path:
    """Write a pack called `name` below `root`, and return its folder."""
    if not NAME.fullmatch(name):
        do = "write zh/ or en/ and small letters, digits and underscores, as zh/my_task"
        raise UserError(f"pack '{one_line(name)}'", "not a pack's name", do)
    folder, language = root / name, name[:2]
    if folder.exists():
        raise UserError(str(folder), "it is there already", "choose another name, or remove it")
    with atomic_folder(folder) as part:
        source = {"zh": ZH, "en": EN}[language]
        write_text(part / "pack.yaml", GUIDE.format(folder=folder.as_posix()) + source.format(name=name))
        write_jsonl(part / "examples.jsonl", [{"text": t, "label": label} for t, label in EXAMPLES[language]])
    return folder
