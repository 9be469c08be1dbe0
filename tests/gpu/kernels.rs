//! Shaders, adapters, and energies of every kernel shape compared with f64.

use brillm::ErrorKind;
use brillm::kernel::element::Element;
use brillm::kernel::gpu::{
    Access, Adapter, AdapterChoice, DeviceOptions, Kernel, KernelShape, Member, MemberType, kernels,
};
use brillm::signal::{BlendKind, EnergyKind, Profile, Start};

use crate::decoding::{decoder, flows, learned};
use crate::{Bed, Test};

pub const TESTS: &[Test] = &[
    (
        "energies_of_every_kernel_shape_match_f64",
        energies_of_every_kernel_shape_match_f64,
    ),
    ("a_device_reports_its_limits", a_device_reports_its_limits),
    (
        "bandwidth_kernels_read_and_copy_every_word",
        bandwidth_kernels_read_and_copy_every_word,
    ),
];

/// Needs no adapter: the front end and the validator of wgpu itself.
pub fn every_shader_parses_and_validates() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut unused: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wgsl")
        })
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut errors = Vec::new();
    for kernel in kernels() {
        let source = kernel.source();
        unused.retain(|text| !source.contains(text.as_str()));
        if let Some(line) = unexplained(&source) {
            errors.push(format!("{}: no shape in a comment: {line}", kernel.name));
        }
        if let Err(error) = validate(&kernel, &source) {
            errors.push(format!("{}.{}: {error}", kernel.name, kernel.entry));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(unused.is_empty(), "no kernel uses: {:.80}", unused[0]);
}

/// A storage binding without a comment with its shape on the line before.
fn unexplained(source: &str) -> Option<&str> {
    let lines: Vec<&str> = source.lines().collect();
    (1..lines.len())
        .find(|&line| {
            let binds = lines[line].contains("@binding(") && lines[line].contains("var<storage");
            binds && !lines[line].contains("//") && !lines[line - 1].starts_with("//")
        })
        .map(|line| lines[line])
}

fn validate(kernel: &Kernel, source: &str) -> Result<(), String> {
    let module =
        naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    naga::valid::Validator::new(
        naga::valid::ValidationFlags::all(),
        naga::valid::Capabilities::SUBGROUP | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    )
    .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
    .subgroup_operations(naga::valid::SubgroupOperationSet::all())
    .validate(&module)
    .map_err(|error| error.emit_to_string(source))?;
    let mut points = module.entry_points.iter();
    if points.any(|point| point.name == kernel.entry) {
        Ok(())
    } else {
        Err("no such entry point".into())
    }
}

/// The parameters and bindings that Rust declares for each kernel are those of its shader.
pub fn parameters_and_bindings_match_the_shaders() {
    let mut errors = Vec::new();
    for kernel in kernels() {
        let module = naga::front::wgsl::parse_str(&kernel.source()).unwrap();
        let name = format!("{}.{}", kernel.name, kernel.entry);
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else {
                continue;
            };
            let access = match variable.space {
                naga::AddressSpace::Uniform => Access::Uniform,
                naga::AddressSpace::Storage { access }
                    if access.contains(naga::StorageAccess::STORE) =>
                {
                    Access::Write
                }
                _ => Access::Read,
            };
            let declared = kernel.bindings.get(binding.binding as usize);
            if declared != Some(&access) {
                errors.push(format!(
                    "{name}: binding {} is {access:?}, declared {declared:?}",
                    binding.binding
                ));
            }
            if access == Access::Uniform {
                let found = members(&module, variable.ty);
                let expected = flattened(kernel.parameters, "", 0);
                for (found, expected) in found.iter().zip(&expected) {
                    if found != expected {
                        errors.push(format!("{name}: {found:?} in WGSL, {expected:?} in Rust"));
                    }
                }
                if found.len() != expected.len() {
                    errors.push(format!(
                        "{name}: {} members in WGSL, {} in Rust",
                        found.len(),
                        expected.len()
                    ));
                }
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Name, offset, and type with its size.
type Flat = (String, usize, &'static str, usize);

/// The members of a struct of WGSL, those of nested structs by their path.
fn members(module: &naga::Module, ty: naga::Handle<naga::Type>) -> Vec<Flat> {
    let naga::TypeInner::Struct { members: all, .. } = &module.types[ty].inner else {
        panic!("parameters are a struct");
    };
    all.iter()
        .flat_map(|member| {
            let name = member.name.clone().unwrap();
            let offset = member.offset as usize;
            match &module.types[member.ty].inner {
                naga::TypeInner::Scalar(naga::Scalar::U32) => vec![(name, offset, "u32", 4)],
                naga::TypeInner::Scalar(naga::Scalar::F32) => vec![(name, offset, "f32", 4)],
                naga::TypeInner::Struct { .. } => members(module, member.ty)
                    .into_iter()
                    .map(|(inner, at, ty, size)| (format!("{name}.{inner}"), offset + at, ty, size))
                    .collect(),
                inner => vec![(name, offset, "array", inner.size(module.to_ctx()) as usize)],
            }
        })
        .collect()
}

/// The same of the members that Rust declares.
fn flattened(all: &[Member], path: &str, start: usize) -> Vec<Flat> {
    all.iter()
        .flat_map(|member| {
            let (name, offset) = (format!("{path}{}", member.name), start + member.offset);
            match member.ty {
                MemberType::U32 => vec![(name, offset, "u32", 4)],
                MemberType::F32 => vec![(name, offset, "f32", 4)],
                MemberType::U32x8 => vec![(name, offset, "array", 32)],
                MemberType::Struct(inner) => flattened(inner, &format!("{name}."), offset),
            }
        })
        .collect()
}

pub fn a_missing_adapter_is_reported() {
    let error = Adapter::choose(&AdapterChoice::Named("no such adapter".into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("--backend cpu"), "{error}");
    // A software adapter is never taken for a real one.
    if let Ok(adapter) = Adapter::choose(&AdapterChoice::Real) {
        assert!(adapter.report().kind.is_real(), "{:?}", adapter.report());
    }
}

fn a_device_reports_its_limits(bed: &Bed) {
    let report = bed.device.report();
    assert!(report.refused.is_none(), "{report:?}");
    let threads = bed.device.shape() == KernelShape::Thread;
    assert_eq!(threads, bed.is_software());
    println!(
        "  {report}: subgroup {}, {} MiB a binding, {} storage buffers",
        bed.device.subgroup(),
        report.binding_bytes >> 20,
        report.storage_buffers
    );
    // A buffer that no kernel can bind is an error, not a panic.
    let more = report.binding_bytes + (1 << 20);
    let error = bed
        .device
        .buffer(more, brillm::kernel::gpu::Purpose::Storage, "a buffer")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Resource, "{error}");
    // So is a kernel that does not compile, and the device stays usable.
    let broken = brillm::kernel::gpu::Kernel {
        name: "broken",
        sources: &["@compute @workgroup_size(1) fn main() { let x = y; }"],
        entry: "main",
        parameters: &[],
        bindings: &[],
    };
    let error = bed.device.pipeline(&broken, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(bed.device.check().is_ok());
}

/// Lanes with and without subgroups, and one thread an edge; each element; widths with padding.
fn energies_of_every_kernel_shape_match_f64(bed: &Bed) {
    let mut shapes = vec![
        DeviceOptions {
            shape: Some(KernelShape::Thread),
            ..DeviceOptions::default()
        },
        DeviceOptions {
            shape: Some(KernelShape::Lanes),
            without_subgroups: true,
            ..DeviceOptions::default()
        },
    ];
    if bed.device.subgroup() > 0 {
        shapes.push(DeviceOptions {
            shape: Some(KernelShape::Lanes),
            ..DeviceOptions::default()
        });
    }
    let mut worst = 0.0f64;
    for options in shapes {
        let device = bed.with(options);
        for (width, element) in [
            (8, Element::F32),
            (6, Element::F32),
            (32, Element::F32),
            (32, Element::F16),
            (32, Element::I8),
            (10, Element::I8),
        ] {
            for own in [true, false] {
                let profile = if own {
                    Profile {
                        blend: BlendKind::Decay,
                        energy: EnergyKind::Norm,
                        ..Profile::sifu_own(width)
                    }
                } else {
                    Profile::sifu(width)
                };
                let mechanism = learned(&profile, element);
                // Five sequences at one node and one at another: a whole tile, a part of a tile, a group of one.
                let mut flows = flows(&mechanism, &[3, 3, 3, 3, 3, 7], &Start::Profile);
                for (index, flow) in flows.iter_mut().enumerate() {
                    flow.output
                        .iter_mut()
                        .for_each(|value| *value *= 1.0 + 0.1 * index as f32);
                }
                let mut decoder = decoder(&device, &mechanism, &flows);
                let (energies, _) = decoder.look().unwrap();
                for (flow, energies) in flows.iter().zip(&energies) {
                    for (node, (&found, expected)) in
                        energies.iter().zip(exact(&mechanism, flow)).enumerate()
                    {
                        let error = (f64::from(found) - expected).abs() / expected.abs().max(1e-3);
                        worst = worst.max(error);
                        assert!(
                            error < 1e-5,
                            "{:?} {width} {element} own {own} node {node}: {found} instead of {expected}",
                            device.options()
                        );
                    }
                }
            }
        }
    }
    println!("  largest relative error of an energy {worst:.1e}");
}

/// Energies of all nodes in f64.
fn exact(mechanism: &brillm::signal::Mechanism, flow: &brillm::signal::Flow) -> Vec<f64> {
    let (profile, graph, weights) = (mechanism.profile(), mechanism.graph(), mechanism.weights());
    let d = profile.width;
    let node = brillm::graph::NodeId(flow.node);
    (0..graph.nodes() as u32)
        .map(|target| {
            let h: Vec<f64> = flow.output.iter().map(|&h| f64::from(h)).collect();
            match profile.form {
                brillm::signal::EdgeForm::Composed | brillm::signal::EdgeForm::Layered => {
                    let mut beta = vec![0.0; d];
                    weights
                        .table("node.target")
                        .read_row(target as usize, &mut beta);
                    h.iter()
                        .zip(&beta)
                        .map(|(h, &b)| (h + f64::from(b)).powi(2))
                        .sum()
                }
                brillm::signal::EdgeForm::Own => {
                    let edge = graph.edge(node, brillm::graph::NodeId(target));
                    let edge_row = edge.map_or(0, |edge| graph.edge_rows()[edge.index()]);
                    let mut row = vec![0.0; d * d + d];
                    weights
                        .table("edge.arena")
                        .read_row(edge_row as usize, &mut row);
                    let square: f64 = (0..d)
                        .map(|j| {
                            let z: f64 = f64::from(row[d * d + j])
                                + (0..d)
                                    .map(|k| h[k] * f64::from(row[k * d + j]))
                                    .sum::<f64>();
                            brillm::kernel::activation::reference(z).0.powi(2)
                        })
                        .sum();
                    square.sqrt()
                }
            }
        })
        .collect()
}

/// Sums and copies of numbers that differ, by dispatches with fewer threads than words and with more.
fn bandwidth_kernels_read_and_copy_every_word(bed: &Bed) {
    use brillm::kernel::gpu::bandwidth::{COPY, READ, WORKGROUP, dispatch};
    use brillm::kernel::gpu::{Program, Purpose};
    let device = &bed.device;
    let values: Vec<u32> = (0..4 * 3001u32)
        .map(|i| i.wrapping_mul(2_654_435_761))
        .collect();
    let bytes = (values.len() * 4) as u64;
    let buffer = |what| device.buffer(bytes, Purpose::Storage, what).unwrap();
    let source = buffer("the source");
    device.write(&source, 0, &values);
    for groups in [1, 3, 11] {
        let run = |kernel| -> Vec<u32> {
            let result = buffer("the result");
            let mut program = Program::new(device, 1).unwrap();
            dispatch(device, &mut program, kernel, [&source, &result], groups).unwrap();
            program
                .submit_and_read(1, &result, 0, values.len())
                .unwrap()
        };
        assert_eq!(run(&COPY), values, "{groups} workgroups");
        let sums = run(&READ);
        for column in 0..4 {
            let sum = |list: &[u32]| {
                let column = list.iter().skip(column).step_by(4);
                column.fold(0u32, |sum, value| sum.wrapping_add(*value))
            };
            let sums = &sums[..(4 * groups * WORKGROUP) as usize];
            assert_eq!(sum(sums), sum(&values), "{groups} workgroups");
        }
    }
}
