//! Kinds of dialogues, styles of their speakers, and prompts.

use crate::language::Language;

/// What a dialogue is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Fact,
    CodeDiscussion,
    CodeCreation,
    CodeBugFix,
}

impl Kind {
    /// The task, as the prompt states it.
    pub fn task(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::Fact, Language::En) => {
                "Write a dialogue in which a human asks about the facts of the reference and an assistant answers from it."
            }
            (Self::Fact, Language::Zh) => {
                "请写一段对话：人类就参考资料中的事实提问，助手依据资料回答。"
            }
            (Self::CodeDiscussion, Language::En) => {
                "Write a dialogue in which a human asks how the code of the reference works and an assistant explains it line by line."
            }
            (Self::CodeDiscussion, Language::Zh) => {
                "请写一段对话：人类询问参考代码如何工作，助手逐行讲解。"
            }
            (Self::CodeCreation, Language::En) => {
                "Write a dialogue in which a human asks for a program that does what the code of the reference does, without having seen it, and an assistant writes it from the reference."
            }
            (Self::CodeCreation, Language::Zh) => {
                "请写一段对话：人类（没有看过代码）要求编写与参考代码功能相同的程序，助手依据参考代码写出。"
            }
            (Self::CodeBugFix, Language::En) => {
                "Write a dialogue in which a human shows a broken version of the reference's code and an assistant finds the fault and corrects it to the reference."
            }
            (Self::CodeBugFix, Language::Zh) => {
                "请写一段对话：人类给出参考代码的一个有错误的版本，助手找出错误并改正为参考代码。"
            }
        }
    }

    pub fn is_code(self) -> bool {
        self != Self::Fact
    }
}

/// A style of asking and of answering. The wording is this project's own; number and weights are those of the paper's script.
pub(crate) struct Style {
    pub weight: f64,
    human: [&'static str; 2],
    assistant: [&'static str; 2],
}

const PLAIN: [&str; 2] = ["answers, and explains in detail", "回答并详细说明"];
const CHILD: [&str; 2] = ["answers so that a child understands", "用孩子能懂的话回答"];

const fn style(weight: f64, human: [&'static str; 2], assistant: [&'static str; 2]) -> Style {
    Style {
        weight,
        human,
        assistant,
    }
}

pub(crate) const STYLES: [Style; 11] = [
    style(0.1, ["asks as a child would", "像孩子一样提问"], CHILD),
    style(
        0.1,
        ["asks as a young person would", "像年轻人一样提问"],
        PLAIN,
    ),
    style(
        0.1,
        ["asks as an old person would", "像老人一样提问"],
        PLAIN,
    ),
    style(0.1, ["asks as an expert would", "像专家一样提问"], PLAIN),
    style(0.5, ["makes a request", "提出请求"], PLAIN),
    style(0.5, ["asks a question", "提出问题"], PLAIN),
    style(
        0.3,
        ["asks for an easy explanation", "请求简单的解释"],
        CHILD,
    ),
    style(0.5, ["asks out of curiosity", "出于好奇提问"], PLAIN),
    style(
        0.5,
        [
            "asks because of something in daily life",
            "结合日常生活提问",
        ],
        PLAIN,
    ),
    style(0.5, ["gives an exact instruction", "给出具体指令"], PLAIN),
    style(0.5, ["needs help", "寻求帮助"], PLAIN),
];

impl Style {
    /// Describe both styles in a language; after the first round the human asks a follow-up.
    pub fn describe(&self, language: Language, further: bool) -> (String, &'static str) {
        let at = usize::from(language == Language::Zh);
        let human = match (further, language) {
            (false, _) => self.human[at].to_string(),
            (true, Language::En) => format!("goes further and {}", self.human[at]),
            (true, Language::Zh) => format!("进一步{}", self.human[at]),
        };
        (human, self.assistant[at])
    }
}

/// System prompt of a chat model.
pub(crate) fn system(language: Language) -> &'static str {
    match language {
        Language::En => {
            "You write dialogues between a human and an assistant. Follow the plan exactly: the same speakers in the same order and about the words it asks for. Begin with <start_chat> and end with <end_chat>."
        }
        Language::Zh => {
            "你负责撰写人类与助手之间的对话。请严格按照计划：说话人及顺序一致，字数接近要求。以<start_chat>开头，以<end_chat>结尾。"
        }
    }
}

/// The prompt of a whole dialogue.
pub(crate) fn prompt(
    kind: Kind,
    language: Language,
    reference: &str,
    plan: &str,
    rounds: usize,
) -> String {
    let task = kind.task(language);
    match language {
        Language::En => format!(
            "Reference:\n{reference}\n\n{task} Say only what the reference says; do not mention that there is a reference. Later questions build on what was said. Answer in full, with examples from the reference. Refuse what would do harm, say why, and offer something safe.\n\nPlan of {rounds} rounds:\n{plan}\n"
        ),
        Language::Zh => format!(
            "参考资料：\n{reference}\n\n{task}只说资料中的内容，不要提到有参考资料。后面的提问要承接前文。回答要详细，并举资料中的例子。拒绝有害的请求，说明理由，并给出安全的替代。\n\n共{rounds}轮的计划：\n{plan}\n"
        ),
    }
}
