//! The plugin's functions and tables.

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::OnceLock;

use brillm_abi::*;

use super::answers::{byte, ignore, indices, numbers, records, scribble, status, text, word};

thread_local! {
    static TABLES: RefCell<Option<Box<Tables>>> = const { RefCell::new(None) };
}

/// Fill the tables from the answers.
pub(super) fn prepare() {
    let tables = tables();
    TABLES.set(Some(Box::new(tables)));
}

unsafe extern "C" fn create(
    _: *const brl_host,
    _: *mut brl_call,
    _: brl_str,
    out: *mut *mut brl_self,
) -> brl_status {
    if byte() != 255 {
        // SAFETY: the host's pointer is valid; the instance is never read.
        unsafe { out.write(std::ptr::dangling_mut::<u64>().cast()) };
    }
    match byte() {
        250..=255 => status(),
        _ => BRL_OK,
    }
}

unsafe extern "C" fn destroy(_: *mut brl_self) {}

type Instance = *mut brl_self;
type Frame = *mut brl_call;

unsafe extern "C" fn plan(
    _: Instance,
    _: Frame,
    question: *const brl_plan_in,
    source: brl_u32s,
    storage: brl_u32s,
) -> brl_status {
    // SAFETY: question and buffers are the host's for this call; the plugin's buffers are as long as the host reads.
    unsafe {
        let question = question.read();
        let layers = question.layers as usize;
        let (mut keys, mut values) = (vec![0.0; layers * layers], vec![0.0; layers * layers]);
        let mut map: Vec<u32> = (0..layers as u32).collect();
        if let (Some(distances), Some(similarity)) = (question.distances, question.similarity) {
            distances(
                question.trial_ctx,
                word(),
                keys.as_mut_ptr(),
                values.as_mut_ptr(),
            );
            indices(brl_u32s::new(map.as_mut_ptr(), layers));
            let mut cosine = 0.0;
            similarity(
                question.trial_ctx,
                map.as_ptr(),
                if byte() < 200 { layers as u64 } else { 0 },
                &raw mut cosine,
            );
        }
        indices(source);
        for bits in storage.slice_mut() {
            *bits = [0, 16, 32, u32::from(byte())][usize::from(byte() % 4)];
        }
    }
    status()
}

unsafe extern "C" fn begin(
    _: Instance,
    _: Frame,
    _: u64,
    _: u64,
    needs: *mut brl_keep_needs,
) -> brl_status {
    // SAFETY: the answer is the host's for this call and has numbers alone.
    unsafe { scribble(needs) };
    status()
}

unsafe extern "C" fn keep(
    _: Instance,
    _: Frame,
    _: *const brl_keep_in,
    kept: *mut brl_eviction,
) -> brl_status {
    // SAFETY: the answer and its buffers are the host's for this call; its pointers are put back.
    unsafe {
        let before = kept.read();
        indices(before.slots);
        indices(before.stream);
        scribble(kept);
        (*kept).slots = before.slots;
        (*kept).stream = before.stream;
    }
    status()
}

unsafe extern "C" fn codec(
    _: Instance,
    _: Frame,
    _: *const brl_codec_in,
    format: *mut brl_codec_format,
) -> brl_status {
    // SAFETY: the answer is the host's for this call and has numbers alone.
    unsafe {
        if byte() < 128 {
            (*format).bits = [2, 4, 8, 3][usize::from(byte() % 4)];
            (*format).group = u64::from(byte() % 8);
            (*format).axis = u64::from(byte() % 3);
            (*format).residual = u64::from(byte() % 8);
        } else {
            scribble(format);
        }
    }
    status()
}

unsafe extern "C" fn prompt(
    _: Instance,
    _: Frame,
    _: *const brl_prompt,
    setting: *mut brl_setting,
) -> brl_status {
    // SAFETY: the answer is the host's for this call and has numbers alone.
    unsafe { scribble(setting) };
    status()
}

unsafe extern "C" fn step(
    _: Instance,
    _: Frame,
    _: *const brl_step,
    logits: brl_f32s,
    setting: *mut brl_setting,
) -> brl_status {
    // SAFETY: buffer and answer are the host's for this call.
    unsafe {
        numbers(logits);
        scribble(setting);
    }
    status()
}

unsafe extern "C" fn choose(
    _: Instance,
    _: Frame,
    _: *const brl_step,
    _: *const brl_tensor,
    token: *mut u64,
) -> brl_status {
    // SAFETY: the answer is the host's for this call.
    unsafe { token.write(word()) };
    status()
}

unsafe extern "C" fn next(
    _: Instance,
    _: Frame,
    _: *const brl_canvas,
    fill: *mut brl_fill,
) -> brl_status {
    // SAFETY: the answer is the host's for this call and has numbers alone.
    unsafe { scribble(fill) };
    status()
}

unsafe extern "C" fn ratio(
    _: Instance,
    _: Frame,
    _: *const brl_mask_moment,
    ratio: *mut f64,
) -> brl_status {
    // SAFETY: the answer is the host's for this call.
    unsafe { ratio.write(f64::from_bits(word().rotate_right(8))) };
    status()
}

unsafe extern "C" fn weigh(
    _: Instance,
    _: Frame,
    _: *const brl_mask_tokens,
    weights: brl_f32s,
) -> brl_status {
    // SAFETY: the buffer is the host's for this call.
    unsafe { numbers(weights) };
    status()
}

unsafe extern "C" fn save(_: Instance, _: Frame, sink: *const brl_sink) -> brl_status {
    // SAFETY: the sink is the host's for this call.
    unsafe { records(sink) };
    status()
}

unsafe extern "C" fn restore(_: Instance, _: Frame, _: brl_str) -> brl_status {
    status()
}

unsafe extern "C" fn write(
    _: Instance,
    _: Frame,
    question: *const brl_reference,
    sink: *const brl_sink,
) -> brl_status {
    // SAFETY: question and sink are the host's for this call; texts and sinks of the plugin live until the calls return.
    unsafe {
        let question = question.read();
        let (first, second, out) = (text(), text(), ignore());
        if let Some(generate) = question.generate {
            generate(
                question.generate_ctx,
                brl_str::from_bytes(&first),
                u64::from(byte() % 4),
                &raw const out,
            );
        }
        if let Some(speak) = question.speak {
            let speech = brl_speech {
                struct_size: size_of::<brl_speech>() as u64,
                system: brl_str::from_bytes(&second),
                prompt: brl_str::from_bytes(&first),
                tokens: u64::from(byte() % 4),
                within: brl_str::from_bytes(if byte() < 128 { b"" } else { &second }),
                gain: f64::from_bits(word().rotate_right(8)),
            };
            speak(question.generate_ctx, &raw const speech, &raw const out);
        }
        if let Some(grounded) = question.grounded {
            let mut fraction = 0.0;
            grounded(
                question.generate_ctx,
                brl_str::from_bytes(&first),
                brl_str::from_bytes(&second),
                &raw mut fraction,
            );
        }
        if let Some(written) = question.written {
            written(question.run_ctx, brl_str::from_bytes(&first));
        }
        records(sink);
    }
    status()
}

unsafe extern "C" fn taps(_: Instance) -> u64 {
    word()
}

unsafe extern "C" fn see(_: Instance, _: Frame, _: *const brl_activations) -> brl_status {
    status()
}

unsafe extern "C" fn ask(_: Instance, _: Frame, subject: *const brl_subject) -> brl_status {
    // SAFETY: the subject is the host's for this call; texts, sinks and shifts of the plugin live until the calls return.
    unsafe {
        let subject = subject.read();
        let (first, second, out) = (text(), text(), ignore());
        let out = &raw const out;
        for _ in 0..byte() % 4 {
            match byte() % 5 {
                0 => subject
                    .tokens
                    .map(|ask| ask(subject.ctx, brl_str::from_bytes(&first), out)),
                1 => subject.resist.map(|ask| {
                    ask(
                        subject.ctx,
                        brl_str::from_bytes(&first),
                        brl_str::from_bytes(&second),
                        out,
                    )
                }),
                2 => subject
                    .states
                    .map(|ask| ask(subject.ctx, word(), brl_str::from_bytes(&first), out)),
                3 => subject.untrained.map(|ask| ask(subject.ctx, word())),
                _ => {
                    let mut delta = [0.0f32; 4];
                    numbers(brl_f32s::new(delta.as_mut_ptr(), 4));
                    let length = usize::from(byte() % 5);
                    let delta = brl_tensor::vector(&delta[..length]);
                    subject.shift.map(|ask| ask(subject.ctx, word(), delta))
                }
            };
        }
    }
    status()
}

unsafe extern "C" fn resist(
    _: Instance,
    _: Frame,
    _: *const brl_fan,
    resistance: brl_f32s,
) -> brl_status {
    // SAFETY: the buffer is the host's for this call.
    unsafe { numbers(resistance) };
    status()
}

unsafe extern "C" fn start(
    _: Instance,
    _: Frame,
    _: *const brl_start,
    signal: brl_f32s,
) -> brl_status {
    // SAFETY: the buffer is the host's for this call.
    unsafe { numbers(signal) };
    status()
}

unsafe extern "C" fn hop(_: Instance, _: Frame, _: *const brl_hop) -> brl_status {
    status()
}

/// The tables of one input.
struct Tables {
    hooks: u16,
    plan: brl_kv_plan,
    keep: brl_kv_keep,
    codec: brl_kv_codec,
    sample: brl_sample,
    order: brl_order,
    mask: brl_mask,
    corpus: brl_corpus,
    probe: brl_probe,
    edge: brl_edge,
    signal: brl_signal,
    path: brl_path,
}

/// A function that this input's table has, for a byte in two of which it lacks it.
macro_rules! some {
    ($function:expr) => {
        (byte() & 15 != 15).then_some($function as _)
    };
}

fn tables() -> Tables {
    fn size<T>() -> u64 {
        // A plugin of another version knows fewer or more fields.
        match byte() {
            0..=239 => size_of::<T>() as u64,
            _ => 16,
        }
    }
    Tables {
        hooks: u16::from_le_bytes([byte(), byte()]),
        plan: brl_kv_plan {
            struct_size: size::<brl_kv_plan>(),
            needs: word(),
            plan: some!(plan as unsafe extern "C" fn(_, _, _, _, _) -> _),
        },
        keep: brl_kv_keep {
            struct_size: size::<brl_kv_keep>(),
            needs: word(),
            begin: some!(begin as unsafe extern "C" fn(_, _, _, _, _) -> _),
            keep: some!(keep as unsafe extern "C" fn(_, _, _, _) -> _),
        },
        codec: brl_kv_codec {
            struct_size: size::<brl_kv_codec>(),
            needs: word(),
            plan: some!(codec as unsafe extern "C" fn(_, _, _, _) -> _),
        },
        sample: brl_sample {
            struct_size: size::<brl_sample>(),
            needs: word(),
            prompt: some!(prompt as unsafe extern "C" fn(_, _, _, _) -> _),
            step: some!(step as unsafe extern "C" fn(_, _, _, _, _) -> _),
            choose: some!(choose as unsafe extern "C" fn(_, _, _, _, _) -> _),
        },
        order: brl_order {
            struct_size: size::<brl_order>(),
            needs: word(),
            next: some!(next as unsafe extern "C" fn(_, _, _, _) -> _),
        },
        mask: brl_mask {
            struct_size: size::<brl_mask>(),
            needs: word(),
            ratio: some!(ratio as unsafe extern "C" fn(_, _, _, _) -> _),
            weigh: some!(weigh as unsafe extern "C" fn(_, _, _, _) -> _),
            learn: None,
            save: some!(save as unsafe extern "C" fn(_, _, _) -> _),
            restore: some!(restore as unsafe extern "C" fn(_, _, _) -> _),
        },
        corpus: brl_corpus {
            struct_size: size::<brl_corpus>(),
            needs: word(),
            write: some!(write as unsafe extern "C" fn(_, _, _, _) -> _),
        },
        probe: brl_probe {
            struct_size: size::<brl_probe>(),
            needs: word(),
            taps: some!(taps as unsafe extern "C" fn(_) -> _),
            see: some!(see as unsafe extern "C" fn(_, _, _) -> _),
            report: some!(save as unsafe extern "C" fn(_, _, _) -> _),
            ask: some!(ask as unsafe extern "C" fn(_, _, _) -> _),
        },
        edge: brl_edge {
            struct_size: size::<brl_edge>(),
            needs: word(),
            resist: some!(resist as unsafe extern "C" fn(_, _, _, _) -> _),
        },
        signal: brl_signal {
            struct_size: size::<brl_signal>(),
            needs: word(),
            start: some!(start as unsafe extern "C" fn(_, _, _, _) -> _),
        },
        path: brl_path {
            struct_size: size::<brl_path>(),
            needs: word(),
            hop: some!(hop as unsafe extern "C" fn(_, _, _) -> _),
        },
    }
}

unsafe extern "C" fn hook(id: brl_str) -> *const c_void {
    // SAFETY: the host's text is valid for this call.
    let id = unsafe { id.bytes() };
    TABLES.with_borrow(|tables| {
        let Some(tables) = tables else {
            return std::ptr::null();
        };
        let entries: [(&[u8], *const c_void); 11] = [
            (b"kv.plan/1", (&raw const tables.plan).cast()),
            (b"kv.keep/1", (&raw const tables.keep).cast()),
            (b"kv.codec/1", (&raw const tables.codec).cast()),
            (b"sample/1", (&raw const tables.sample).cast()),
            (b"order/1", (&raw const tables.order).cast()),
            (b"mask/1", (&raw const tables.mask).cast()),
            (b"corpus/1", (&raw const tables.corpus).cast()),
            (b"probe/1", (&raw const tables.probe).cast()),
            (b"edge/1", (&raw const tables.edge).cast()),
            (b"signal/1", (&raw const tables.signal).cast()),
            (b"path/1", (&raw const tables.path).cast()),
        ];
        let found = entries.iter().position(|(name, _)| *name == id);
        found
            .filter(|index| tables.hooks >> index & 1 == 1)
            .map_or(std::ptr::null(), |index| entries[index].1)
    })
}

/// An entry that any thread may read.
struct Entry(brl_entry, *const brl_plugin);
// SAFETY: it is never written.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Send for Entry {}

pub(super) unsafe extern "C" fn entry() -> *const brl_entry {
    static ENTRY: OnceLock<&'static Entry> = OnceLock::new();
    let entry = ENTRY.get_or_init(|| {
        let plugin = Box::leak(Box::new(brl_plugin {
            struct_size: size_of::<brl_plugin>() as u64,
            id: brl_str::new("fuzz"),
            name: brl_str::new("fuzz"),
            version: brl_str::new("1"),
            license: brl_str::new("none"),
            about: brl_str::new(""),
            config_schema: brl_str::new(""),
            create: Some(create),
            destroy: Some(destroy),
            hook: Some(hook),
        }));
        let entry = Box::leak(Box::new(Entry(
            brl_entry {
                magic: BRL_MAGIC,
                abi_major: BRL_ABI_MAJOR,
                abi_minor: BRL_ABI_MINOR,
                plugin_count: 1,
                plugins: std::ptr::null(),
            },
            plugin,
        )));
        entry.0.plugins = &raw const entry.1;
        entry
    });
    &raw const entry.0
}
