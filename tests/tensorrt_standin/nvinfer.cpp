// Stands in for libnvinfer, libnvinfer_plugin and libnvonnxparser, so that TensorRT's real Python bindings import and work
// without a GPU: parse, build, serialise, load, run, profile, inspect. It contains no code of NVIDIA's.
//
// A plan is a header of text followed by the ONNX file. What an ONNX file holds, what it computes and what the inspector tells of
// it comes from functions in Python (standin.py), which use onnx and ONNX Runtime. It imitates the refusals an application has to
// cope with. It says nothing of TensorRT's operators, precisions, memory or speed.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "engine.h"

namespace {

// --- Network and parser -----------------------------------------------------------------------------------------------------

struct Tensor : Handle { Value* value; };

const char* tensor_name(void* it) { return self<Tensor>(it).value->name.c_str(); }
Dims tensor_shape(void* it) { return self<Tensor>(it).value->shape; }
int tensor_type(void* it) { return self<Tensor>(it).value->type; }

struct Network : Handle {
    uint32_t flags;
    std::string onnx;
    std::vector<Value*> values;
    std::vector<Tensor*> tensors;
    std::vector<std::string> layers;
    ~Network() {
        for (auto* tensor : tensors) delete tensor;
        for (auto* value : values) delete value;
    }
};

template <bool Inputs> int network_count(void* it) {
    int count = 0;
    for (auto* value : self<Network>(it).values) count += value->is_input == Inputs;
    return count;
}
template <bool Inputs> void* network_tensor(void* it, int index) {
    for (auto* tensor : self<Network>(it).tensors)
        if (tensor->value->is_input == Inputs && index-- == 0) return tensor;
    return nullptr;
}
int network_layers(void* it) { return self<Network>(it).layers.size(); }

void* make_network(void*, uint32_t flags) {
    auto* network = new Network;
    network->flags = flags;
    return made<NETWORK>(network, {
        {NetworkDefinition_getNbInputs, (void*)network_count<true>}, {NetworkDefinition_getInput, (void*)network_tensor<true>},
        {NetworkDefinition_getNbOutputs, (void*)network_count<false>}, {NetworkDefinition_getOutput, (void*)network_tensor<false>},
        {NetworkDefinition_getNbLayers, (void*)network_layers}});
}

void add_value(Network& network, bool is_input, std::istringstream& line) {
    auto* value = new Value;
    value->is_input = is_input;
    line >> value->name >> value->type;
    for (int64_t size; line >> size;) value->shape.sizes[value->shape.count++] = size;
    auto* tensor = new Tensor;
    tensor->value = value;
    network.values.push_back(value);
    network.tensors.push_back(made<TENSOR>(tensor, {
        {Tensor_getName, (void*)tensor_name}, {Tensor_getDimensions, (void*)tensor_shape}, {Tensor_getType, (void*)tensor_type}}, false));
}

struct ParserError { void** table; std::string node, node_operator, message; };
struct Parser { void** table; Network* network; std::vector<ParserError*> errors; };

const char* error_text(ParserError* error) { return error->message.c_str(); }
const char* error_node(ParserError* error) { return error->node.c_str(); }
const char* error_operator(ParserError* error) { return error->node_operator.c_str(); }

void add_error(Parser* parser, std::string node, std::string node_operator, std::string message) {
    static void** table = table_of<PARSER_ERROR>({
        {IParserError_desc, (void*)error_text}, {IParserError_nodeName, (void*)error_node}, {IParserError_nodeOperator, (void*)error_operator}});
    parser->errors.push_back(new ParserError{table, node, node_operator, message});
    log_error("[ModelImporter] " + message);
}

bool parse_file(Parser* parser, const char* path, int) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    if (!file) return add_error(parser, "", "", std::string("Failed to open file: ") + path), false;
    Network& network = *parser->network;
    network.onnx = content.str();
    std::istringstream lines(answer(hooks.describe, network.onnx));
    for (std::string text; std::getline(lines, text);) {
        std::istringstream line(text.substr(2));
        if (text[0] == 'L') network.layers.push_back(text.substr(2));
        else if (text[0] == 'E') {
            std::string node, node_operator, message;
            line >> node >> node_operator >> std::ws;
            std::getline(line, message);
            add_error(parser, node == "-" ? "" : node, node_operator == "-" ? "" : node_operator, message);
        } else add_value(network, text[0] == 'I', line);
    }
    return parser->errors.empty();
}
int parser_error_count(Parser* parser) { return parser->errors.size(); }
void parser_delete(Parser* parser) {
    for (auto* error : parser->errors) delete error;
    delete parser;
}
void* parser_error(Parser* parser, int index) { return index < (int)parser->errors.size() ? parser->errors[index] : nullptr; }

// --- Builder ----------------------------------------------------------------------------------------------------------------

struct Profile : Handle { std::map<std::string, Dims> ranges[3]; };

bool profile_set(void* it, const char* name, int which, const Dims* shape) { return self<Profile>(it).ranges[which][name] = *shape, true; }
Dims profile_get(void* it, const char* name, int which) { return self<Profile>(it).ranges[which][name]; }

struct Cache : Handle { std::string bytes; };

void* cache_serialised(void* it) { return memory_of(self<Cache>(it).bytes); }

struct Config : Handle {
    uint32_t flags = 0;
    int hardware_level = 0, verbosity = 0;
    void* monitor = nullptr;
    void* cache = nullptr;
    std::map<int, size_t> pools;
    std::vector<Profile*> profiles;
};

void config_set_flag(void* it, int flag) { self<Config>(it).flags |= 1u << flag; }
void config_clear_flag(void* it, int flag) { self<Config>(it).flags &= ~(1u << flag); }
bool config_flag(void* it, int flag) { return self<Config>(it).flags >> flag & 1; }
void config_set_pool(void* it, int pool, size_t size) { self<Config>(it).pools[pool] = size; }
size_t config_pool(void* it, int pool) { return self<Config>(it).pools[pool]; }
void config_set_hardware(void* it, int level) { self<Config>(it).hardware_level = level; }
int config_hardware(void* it) { return self<Config>(it).hardware_level; }
void config_set_verbosity(void* it, int verbosity) { self<Config>(it).verbosity = verbosity; }
int config_verbosity(void* it) { return self<Config>(it).verbosity; }
void config_set_monitor(void* it, void* monitor) { self<Config>(it).monitor = monitor; }
void* config_monitor(void* it) { return self<Config>(it).monitor; }
int config_add_profile(void* it, void* profile) {
    auto& profiles = self<Config>(it).profiles;
    profiles.push_back(&given<Profile>(profile));
    return profiles.size() - 1;
}

const std::string CACHE_TAG = "STANDIN-TIMES-" + std::to_string(TENSORRT_MAJOR);

void* make_cache(void*, const void* bytes, size_t size) {
    auto* cache = new Cache;
    cache->bytes.assign(static_cast<const char*>(bytes), size);
    return made<CACHE>(cache, {{TimingCache_serialize, (void*)cache_serialised}});
}
bool config_set_cache(void* it, void* cache, bool) {
    auto& bytes = given<Cache>(cache).bytes;
    if (!bytes.empty() && bytes.compare(0, CACHE_TAG.size(), CACHE_TAG)) return log_error("The timing cache is of another version"), false;
    self<Config>(it).cache = cache;
    bytes = CACHE_TAG + bytes.substr(std::min(bytes.size(), CACHE_TAG.size())) + ".";  // one more dot a build
    return true;
}
void* config_cache(void* it) { return self<Config>(it).cache; }

void* make_config(void*) {
    return made<CONFIG>(new Config, {
        {BuilderConfig_setFlag, (void*)config_set_flag}, {BuilderConfig_clearFlag, (void*)config_clear_flag}, {BuilderConfig_getFlag, (void*)config_flag},
        {BuilderConfig_setMemoryPoolLimit, (void*)config_set_pool}, {BuilderConfig_getMemoryPoolLimit, (void*)config_pool},
        {BuilderConfig_setHardwareCompatibilityLevel, (void*)config_set_hardware}, {BuilderConfig_getHardwareCompatibilityLevel, (void*)config_hardware},
        {BuilderConfig_setProfilingVerbosity, (void*)config_set_verbosity}, {BuilderConfig_getProfilingVerbosity, (void*)config_verbosity},
        {BuilderConfig_setProgressMonitor, (void*)config_set_monitor}, {BuilderConfig_getProgressMonitor, (void*)config_monitor},
        {BuilderConfig_createTimingCache, (void*)make_cache}, {BuilderConfig_setTimingCache, (void*)config_set_cache}, {BuilderConfig_getTimingCache, (void*)config_cache},
        {BuilderConfig_addOptimizationProfile, (void*)config_add_profile}});
}

void* make_profile(void*) {  // the builder's own: the bindings do not delete it
    return made<PROFILE>(new Profile, {{OptimizationProfile_setDimensions, (void*)profile_set}, {OptimizationProfile_getDimensions, (void*)profile_get}}, false);
}

// Report two phases, one inside the other, and stop where the monitor wants it.
bool reported(void* monitor) {
    if (!monitor) return true;
    const char* pause = std::getenv("STANDIN_STEP_MS");
    auto begin = [&](const char* phase, const char* parent, int steps) { call<void>(monitor, IProgressMonitor_phaseStart, phase, parent, steps); };
    auto step = [&](const char* phase, int number) {
        std::this_thread::sleep_for(std::chrono::milliseconds(pause ? std::atoi(pause) : 0));
        return call<bool>(monitor, IProgressMonitor_stepComplete, phase, number);
    };
    auto end = [&](const char* phase) { call<void>(monitor, IProgressMonitor_phaseFinish, phase); };
    bool go = true;
    begin("Building engine", nullptr, 2);
    for (int outer = 0; outer < 2 && go; outer++) {
        begin("Timing kernels", "Building engine", 4);
        for (int inner = 0; inner < 4 && go; inner++) go = step("Timing kernels", inner);
        end("Timing kernels");
        go = go && step("Building engine", outer);
    }
    end("Building engine");
    return go;
}

void* build(void*, void* network_handle, void* config_handle) {
    auto& network = given<Network>(network_handle);
    auto& config = given<Config>(config_handle);
    if (!(network.flags >> hooks.strongly_typed & 1)) return log_error("The network is not strongly typed"), nullptr;
    const char* builds = std::getenv("STANDIN_BUILDS");
    if (builds && std::string(builds) == "nothing") return log_error("Could not find any implementation for node " + network.layers[0]), nullptr;
    std::ostringstream header;
    header << (config.flags >> hooks.version_compatible & 1) << " " << (config.verbosity == hooks.detailed) << " " << network.values.size() << "\n";
    for (auto* value : network.values) {
        Dims range[3] = {value->shape, value->shape, value->shape};
        if (value->is_input && is_dynamic(value->shape)) {
            if (config.profiles.empty()) return log_error("Network has dynamic or shape inputs, but no optimization profile has been defined."), nullptr;
            for (int which = 0; which < 3; which++) range[which] = config.profiles[0]->ranges[which][value->name];
        }
        header << value->is_input << " " << value->name << " " << value->type << " " << value->shape.count;
        write_shape(header, value->shape);
        for (auto& shape : range) write_shape(header, shape);
        header << "\n";
    }
    for (auto& layer : network.layers) header << layer << "\n";
    if (!reported(config.monitor)) return log_error("The build was cancelled by the progress monitor"), nullptr;
    char start[32];
    std::snprintf(start, sizeof start, "STANDIN %02d %08zu\n", TENSORRT_MAJOR, header.str().size());
    return memory_of(start + header.str() + network.onnx);
}

}  // namespace

void log_error(const std::string& message) {
    if (logger) call<void>(logger, ILogger_log, (int)ERROR, message.c_str());
    else std::fprintf(stderr, "%s\n", message.c_str());
}

long report_missing(int object_class, int slot) {
    log_error("The stand-in does not implement slot " + std::to_string(slot) + " of its class " + std::to_string(object_class));
    return 0;
}

// --- The symbols that the bindings need -------------------------------------------------------------------------------------

extern "C" {

void standin_set_hooks(const Hooks* given_hooks) { hooks = *given_hooks; }

void* createInferBuilder_INTERNAL(void* given_logger, int) {
    logger = given_logger;
    return made<BUILDER>(new Handle, {
        {Builder_createNetworkV2, (void*)make_network}, {Builder_createBuilderConfig, (void*)make_config},
        {Builder_createOptimizationProfile, (void*)make_profile}, {Builder_buildSerializedNetwork, (void*)build}});
}

void* createInferRuntime_INTERNAL(void* given_logger, int) {
    logger = given_logger;
    return made<RUNTIME>(new Runtime, {
        {Runtime_deserializeCudaEngine, (void*)load}, {Runtime_setEngineHostCodeAllowed, (void*)runtime_allow},
        {Runtime_getEngineHostCodeAllowed, (void*)runtime_allows}});
}

void* createNvOnnxParser_INTERNAL(void* network, void* given_logger, int) {
    logger = given_logger;
    static void** table = table_of<PARSER>({
        {IParser_parseFromFile, (void*)parse_file}, {IParser_getNbErrors, (void*)parser_error_count}, {IParser_getError, (void*)parser_error},
        {IParser_delete, (void*)parser_delete}});
    return new Parser{table, &given<Network>(network), {}};
}

void* createInferRefitter_INTERNAL(void*, void*, int) { return nullptr; }
void* createNvOnnxParserRefitter_INTERNAL(void*, void*, int) { return nullptr; }
void* getBuilderPluginRegistry(int) { return nullptr; }
void* getPluginRegistry() { return nullptr; }
bool initLibNvInferPlugins(void*, const char*) { return true; }
int getNvOnnxParserVersion() { return TENSORRT_MAJOR * 10000; }
}
