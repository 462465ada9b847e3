"""Writes punctuation_golden.json: what FunASR's own ONNX runtime makes of a few texts with the embedded models.

The tests do not need this script. To run it, in an environment of its own (funasr_onnx pulls in much):

    pip install funasr_onnx
    python tests/data/make_punctuation_golden.py

`texts` are given whole: `offline` and `realtime` hold one mark a token as the runtimes return them, `_` for none.
`calls` are stretches of a transcript, given to the realtime form one after another: `labels` begins, but for the
first, with the label of the last cached token; `cache` is the runtime's cache after the call.
"""

from __future__ import annotations

import json
from pathlib import Path

from funasr_onnx import CT_Transformer, CT_Transformer_VadRealtime  # type: ignore[import-not-found]

HERE = Path(__file__).parent
ASSETS = HERE.parents[1] / "model" / "assets"

ENGLISH = (
    "good morning everyone thank you for coming my name is sarah and i work for the city library today i want to talk"
    " about three things first we have bought two thousand new books for children second the reading room will be open"
    " until nine in the evening and third we need your help do you have old books at home that you do not read any more"
    " bring them to us and we will find a new reader for them last year people gave us more than five hundred books can"
    " we do better this year i think we can if you have questions please ask me or one of my colleagues we are here"
    " every day except sunday when the library is closed and by the way the coffee in the entrance hall is free this"
    " week so why not come in sit down and read for an hour the weather is bad anyway is it not"
)
CHINESE = (
    "大家早上好感谢各位来参加今天的会议我叫李明在市图书馆工作今天我想谈三件事第一我们给孩子们买了两千本新书第二阅览室晚上开到九点"
    "第三我们需要你们的帮助你家里有没有不再看的旧书请把它们带来我们会给它们找到新的读者去年大家送给我们五百多本书今年我们能不能做得更好"
    "我相信可以如果有问题请问我或者我的同事除了星期天我们每天都在这里顺便说一句这个星期大厅里的咖啡是免费的所以为什么不进来坐一坐读一个小时的书呢"
    "反正外面天气也不好苹果香蕉橘子和葡萄都准备好了"
)
TEXTS = [
    "hello",
    "你好",
    "how are you",
    "今天天气怎么样我想去公园散步你要一起去吗",
    "i am fine thank you what about you",
    "march twenty third nineteen sixty one",
    "我在用 python 写代码 你呢",
    "ok 那我们明天见 bye bye",
    "i live in 北京 and i work at a company called 阿里巴巴 it is very big",
    "2024年我们一共卖了300台电脑比去年多了百分之二十",
    "zyzzyva qwertyuiop 龘 the end",
    ENGLISH,
    CHINESE,
    f"{CHINESE} {ENGLISH}",
    # a mark after the second token ends no sentence
    "my colleagues we are here every day except sunday when the library is closed and by the way the coffee in the"
    " entrance hall is",
    # more than 200 tokens without an end: the last comma is made one
    "though behind 动 " * 87,
    "一个苹果两个梨三个" * 40,
]
CALLS = [
    [
        "good morning everyone thank you",
        "for coming my name is sarah and i",
        "work for the city library",
        "today i want to",
        "talk about three things first we",
        "have bought two thousand new books for children",
        "second the reading room",
    ],
    [
        "大家早上好感谢各位",
        "来参加今天的会议",
        "我叫李明在市图书馆",
        "工作今天我想谈三件事第一",
        "我们给孩子们买了两千本新书第二阅览室晚上开到九点",
    ],
    ["我在用", "python 写代码", "你呢", "i am writing", "in 英文 as you", "can see 对不对"],
    # marks that would be others if cached words saw the new ones
    ["了我的", "计划太好了"],
    ["可以吧大家都同意了我的", "计划太好了恭喜"],
    ["have bought", "two thousand new books for"],
    [ENGLISH[:300], ENGLISH[300:650], ENGLISH[650:]],
]


def main() -> None:
    """Writes the file."""
    offline = CT_Transformer(ASSETS / "punc-small-offline", quantize=True)
    realtime = CT_Transformer_VadRealtime(ASSETS / "punc-small-realtime", quantize=True)
    texts = []
    for text in TEXTS:
        _, labels = offline(text)
        _, realtime_labels, _ = realtime(text, {"cache": []})
        texts.append(
            {
                "text": text,
                "offline": "".join(offline.punc_list[label] for label in labels),
                "realtime": "".join(realtime_labels),
            }
        )
    calls = []
    for stretches in CALLS:
        state: dict[str, list[str]] = {"cache": []}
        call = []
        for stretch in stretches:
            _, labels, cache = realtime(stretch, state)
            call.append({"text": stretch, "labels": "".join(labels), "cache": [word.strip() for word in cache]})
        calls.append(call)
    golden = json.dumps({"texts": texts, "calls": calls}, ensure_ascii=False, indent=1)
    (HERE / "punctuation_golden.json").write_text(golden + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
