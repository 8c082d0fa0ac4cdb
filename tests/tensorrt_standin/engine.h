// What is made of a plan: the runtime that reads it, the engine, its execution contexts and its inspector.
#pragma once

#include <map>
#include <sstream>

#include "values.h"

namespace {

// --- Engine, context, inspector ---------------------------------------------------------------------------------------------

struct Engine : Handle {
    bool detailed;
    std::string onnx;
    std::vector<Value> values;
    std::vector<std::string> layers;
    Value* find(const std::string& name) {
        for (auto& value : values)
            if (value.name == name) return &value;
        return nullptr;
    }
};

Dims no_shape() { Dims shape; shape.count = -1; return shape; }
int engine_layers(void* it) { return self<Engine>(it).layers.size(); }
int engine_count(void* it) { return self<Engine>(it).values.size(); }
const char* engine_name(void* it, int index) {
    auto& values = self<Engine>(it).values;
    return index >= 0 && index < (int)values.size() ? values[index].name.c_str() : nullptr;
}
Dims engine_shape(void* it, const char* name) { auto* value = self<Engine>(it).find(name); return value ? value->shape : no_shape(); }
int engine_type(void* it, const char* name) { auto* value = self<Engine>(it).find(name); return value ? value->type : 0; }
int engine_mode(void* it, const char* name) { auto* value = self<Engine>(it).find(name); return !value ? NONE : value->is_input ? INPUT : OUTPUT; }
Dims engine_range(void* it, const char* name, int profile, int which) {
    auto* value = self<Engine>(it).find(name);
    return value && value->is_input && profile == 0 ? value->range[which] : no_shape();
}

struct Context : Handle {
    Engine* engine;
    std::map<std::string, Dims> shapes;
    std::map<std::string, void*> addresses;
    void* profiler = nullptr;
};

bool context_set_shape(void* it, const char* name, const Dims* shape) {
    auto& context = self<Context>(it);
    Value* value = context.engine->find(name);
    bool fits = value && value->is_input && shape->count == value->shape.count;
    for (int axis = 0; fits && axis < shape->count; axis++)
        fits = shape->sizes[axis] >= value->range[0].sizes[axis] && shape->sizes[axis] <= value->range[2].sizes[axis];
    if (!fits) return log_error(std::string("setInputShape: the dimensions of ") + name + " do not satisfy any optimization profile"), false;
    context.shapes[name] = *shape;
    return true;
}
Dims context_shape(void* it, const char* name) {
    auto& context = self<Context>(it);
    Value* value = context.engine->find(name);
    if (!value) return no_shape();
    if (context.shapes.count(name)) return context.shapes[name];
    Dims shape = value->shape;
    // A free size of an output is the batch: that of the first input.
    for (auto& input : context.engine->values)
        if (!value->is_input && input.is_input && context.shapes.count(input.name)) {
            for (int axis = 0; axis < shape.count; axis++)
                if (shape.sizes[axis] < 0 && axis == 0) shape.sizes[axis] = context.shapes[input.name].sizes[0];
            break;
        }
    return shape;
}
bool context_set_address(void* it, const char* name, void* address) { return self<Context>(it).addresses[name] = address, true; }
void context_set_profiler(void* it, void* profiler) { self<Context>(it).profiler = profiler; }
void* context_profiler(void* it) { return self<Context>(it).profiler; }

bool context_run(void* it, void*) {
    auto& context = self<Context>(it);
    std::vector<const char*> names;
    std::vector<void*> addresses;
    std::vector<Dims> shapes;
    for (auto& value : context.engine->values) {
        Dims shape = context_shape(it, value.name.c_str());
        if (is_dynamic(shape)) return log_error("enqueueV3: the shape is not specified for " + value.name), false;
        if (!context.addresses[value.name]) return log_error("enqueueV3: Address is not set for " + value.name), false;
        names.push_back(value.name.c_str());
        addresses.push_back(context.addresses[value.name]);
        shapes.push_back(shape);
    }
    auto& onnx = context.engine->onnx;
    int ran = hooks.run(onnx.data(), onnx.size(), names.size(), names.data(), addresses.data(), shapes.data());
    if (ran < 0) return log_error("enqueueV3: these libraries stand in for TensorRT's in the tests and refuse to be timed"), false;
    if (!ran) return log_error("enqueueV3: the run failed"), false;
    if (context.profiler)
        for (auto& layer : context.engine->layers) call<void>(context.profiler, IProfiler_reportLayerTime, layer.c_str(), 0.5f);
    return true;
}

void* make_context(void* it, int) {
    auto* context = new Context;
    context->engine = &self<Engine>(it);
    return made<CONTEXT>(context, {
        {ExecutionContext_setInputShape, (void*)context_set_shape}, {ExecutionContext_getTensorShape, (void*)context_shape},
        {ExecutionContext_setTensorAddress, (void*)context_set_address}, {ExecutionContext_enqueueV3, (void*)context_run},
        {ExecutionContext_setProfiler, (void*)context_set_profiler}, {ExecutionContext_getProfiler, (void*)context_profiler}});
}

struct Inspector : Handle { Engine* engine; Context* context = nullptr; std::string text; };

bool inspector_set_context(void* it, void* context) { return self<Inspector>(it).context = context ? &given<Context>(context) : nullptr, true; }
void* inspector_context(void* it) { return self<Inspector>(it).context; }
const char* inspector_text(void* it, int) {
    auto& inspector = self<Inspector>(it);
    std::vector<char> text(16 << 20);
    bool with_shapes = inspector.context && !inspector.context->shapes.empty();
    hooks.inspect(inspector.engine->onnx.data(), inspector.engine->onnx.size(), inspector.engine->detailed, with_shapes, text.data(), text.size());
    inspector.text = text.data();
    return inspector.text.c_str();
}
void* make_inspector(void* it) {
    auto* inspector = new Inspector;
    inspector->engine = &self<Engine>(it);
    return made<INSPECTOR>(inspector, {
        {EngineInspector_setExecutionContext, (void*)inspector_set_context}, {EngineInspector_getExecutionContext, (void*)inspector_context},
        {EngineInspector_getEngineInformation, (void*)inspector_text}});
}

// --- Runtime ----------------------------------------------------------------------------------------------------------------

struct Runtime : Handle { bool host_code_allowed = false; };

void runtime_allow(void* it, bool allowed) { self<Runtime>(it).host_code_allowed = allowed; }
bool runtime_allows(void* it) { return self<Runtime>(it).host_code_allowed; }

void* load(void* it, const void* bytes, size_t size) {
    std::string plan(static_cast<const char*>(bytes), size);
    constexpr size_t START = 20;
    if (size < START || plan.compare(0, 8, "STANDIN ")) return log_error("Serialization assertion magicTagRead == kMAGIC_TAG failed. Magic tag does not match"), nullptr;
    if (std::stoi(plan.substr(8, 2)) != TENSORRT_MAJOR) return log_error("Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed. Version tag does not match"), nullptr;
    size_t header_size = std::stoul(plan.substr(11, 8));
    std::istringstream header(plan.substr(START, header_size));
    bool version_compatible;
    size_t count;
    auto* engine = new Engine;
    header >> version_compatible >> engine->detailed >> count;
    if (version_compatible && !self<Runtime>(it).host_code_allowed) return log_error("The plan has a lean runtime, and engine host code is not allowed"), nullptr;
    while (count--) {
        Value value;
        header >> value.is_input >> value.name >> value.type >> value.shape.count;
        for (int axis = 0; axis < value.shape.count; axis++) header >> value.shape.sizes[axis];
        for (auto& shape : value.range) {
            shape.count = value.shape.count;
            for (int axis = 0; axis < shape.count; axis++) header >> shape.sizes[axis];
        }
        engine->values.push_back(value);
    }
    std::string layer;
    std::getline(header, layer);
    while (std::getline(header, layer)) engine->layers.push_back(layer);
    engine->onnx = plan.substr(START + header_size);
    return made<ENGINE>(engine, {
        {CudaEngine_getNbLayers, (void*)engine_layers}, {CudaEngine_getNbIOTensors, (void*)engine_count}, {CudaEngine_getIOTensorName, (void*)engine_name},
        {CudaEngine_getTensorShape, (void*)engine_shape}, {CudaEngine_getTensorDataType, (void*)engine_type}, {CudaEngine_getTensorIOMode, (void*)engine_mode},
        {CudaEngine_getProfileShape, (void*)engine_range}, {CudaEngine_createExecutionContext, (void*)make_context},
        {CudaEngine_createEngineInspector, (void*)make_inspector}});
}

}  // namespace
