//! The SDK as a package: the module `keyrail`, and `addHandler` for the build of a handler.

const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const keyrail = b.addModule("keyrail", .{ .root_source_file = b.path("src/keyrail.zig"), .target = target });
    const tests = b.addTest(.{ .root_module = keyrail });
    const example = b.addTest(.{ .root_module = b.createModule(.{
        .root_source_file = b.path("example/totals.zig"),
        .target = target,
        .imports = &.{.{ .name = "keyrail", .module = keyrail }},
    }) });
    const step = b.step("test", "Run the tests of the SDK and of its example");
    step.dependOn(&b.addRunArtifact(tests).step);
    step.dependOn(&b.addRunArtifact(example).step);
}

pub const Options = struct {
    /// Of the file: `NAME.wasm`.
    name: []const u8,
    root_source_file: std.Build.LazyPath,
    optimize: std.builtin.OptimizeMode = .ReleaseSafe,
};

/// A handler for the plugin folder: give it to `b.installArtifact`.
pub fn addHandler(b: *std.Build, options: Options) *std.Build.Step.Compile {
    const target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .wasi });
    const module = b.createModule(.{
        .root_source_file = options.root_source_file,
        .target = target,
        .optimize = options.optimize,
    });
    module.addImport("keyrail", b.dependencyFromBuildZig(@This(), .{ .target = target }).module("keyrail"));
    const handler = b.addExecutable(.{ .name = options.name, .root_module = module });
    handler.entry = .disabled;
    handler.rdynamic = true;
    handler.wasi_exec_model = .reactor;
    handler.stack_size = 1 << 20;
    return handler;
}
