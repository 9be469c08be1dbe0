// Functions: skip sequences that take no part in a hop. After: sequences.wgsl.

var<workgroup> skipped: u32;

// Whether sequence b has ended or the submission is halted; the same value in all threads.
fn is_over(b: u32, thread: u32) -> bool {
    if thread == 0u {
        skipped = integers[HALTED] | integers[P.at.done + b];
    }
    return workgroupUniformLoad(&skipped) != 0u;
}
