// What the network before a build and the engine after it share: the functions in Python, memory handed out, inputs and outputs.
#pragma once

#include "objects.h"

namespace {

enum Class { BUILDER, NETWORK, TENSOR, CONFIG, PROFILE, CACHE, MEMORY, RUNTIME, ENGINE, CONTEXT, INSPECTOR, PARSER, PARSER_ERROR };
enum Severity { INTERNAL_ERROR, ERROR };
enum DataType { INT8 = 2 };
enum TensorMode { NONE, INPUT, OUTPUT };

// --- What Python provides ---------------------------------------------------------------------------------------------------

struct Hooks {
    // Lines on an ONNX file: "I|O name type sizes...", "L layer", "E node operator message".
    int (*describe)(const void* onnx, size_t size, char* text, size_t capacity);
    int (*run)(const void* onnx, size_t size, int count, const char** names, void** addresses, const Dims* shapes);
    int (*inspect)(const void* onnx, size_t size, int detailed, int with_shapes, char* text, size_t capacity);
    int strongly_typed;      // numbers of enumerators, which differ between the majors
    int version_compatible;
    int detailed;
};
Hooks hooks;
void* logger;

std::string answer(int (*ask)(const void*, size_t, char*, size_t), const std::string& onnx) {
    std::vector<char> text(4 << 20);
    ask(onnx.data(), onnx.size(), text.data(), text.size());
    return text.data();
}

// --- Memory that TensorRT hands out -----------------------------------------------------------------------------------------

struct Memory : Handle { std::string bytes; };

const void* memory_data(void* it) { return self<Memory>(it).bytes.data(); }
size_t memory_size(void* it) { return self<Memory>(it).bytes.size(); }
int memory_type(void*) { return INT8; }  // the bindings multiply the size by this type's

void* memory_of(std::string bytes) {
    auto* memory = new Memory;
    memory->bytes = std::move(bytes);
    return made<MEMORY>(memory, {{HostMemory_data, (void*)memory_data}, {HostMemory_size, (void*)memory_size}, {HostMemory_type, (void*)memory_type}});
}

// --- Inputs and outputs ------------------------------------------------------------------------------------------------------

struct Value {  // an input or output
    bool is_input;
    std::string name;
    int type;
    Dims shape;
    Dims range[3];  // smallest, tuned for, largest
};

void write_shape(std::ostream& out, const Dims& shape) {
    for (int axis = 0; axis < shape.count; axis++) out << " " << shape.sizes[axis];
}

bool is_dynamic(const Dims& shape) {
    for (int axis = 0; axis < shape.count; axis++)
        if (shape.sizes[axis] < 0) return true;
    return false;
}

}  // namespace
