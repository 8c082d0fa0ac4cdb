// Where the methods of TensorRT's implementation classes stand in their virtual tables: in 10.x, and in 11.x.
//
// The numbers were found from the bindings alone, by handing them objects whose every slot reports its own number. They are the
// same in the 10.x and in the 11.x versions looked at (10.0.1, 10.3.0, 10.7.0, 10.13.3, 10.16.1; 11.4.0).

#define STANDIN_SLOT(name, on_10, on_11) constexpr int name = TENSORRT_MAJOR == 10 ? on_10 : on_11;

STANDIN_SLOT(Builder_createBuilderConfig, 7, 5)
STANDIN_SLOT(Builder_createNetworkV2, 8, 6)
STANDIN_SLOT(Builder_createOptimizationProfile, 9, 7)
STANDIN_SLOT(Builder_buildSerializedNetwork, 14, 11)

STANDIN_SLOT(NetworkDefinition_getNbInputs, 14, 14)
STANDIN_SLOT(NetworkDefinition_getInput, 15, 15)
STANDIN_SLOT(NetworkDefinition_getNbOutputs, 16, 16)
STANDIN_SLOT(NetworkDefinition_getOutput, 17, 17)
STANDIN_SLOT(NetworkDefinition_getNbLayers, 12, 12)

STANDIN_SLOT(Tensor_getName, 3, 3)
STANDIN_SLOT(Tensor_getDimensions, 5, 5)
STANDIN_SLOT(Tensor_getType, 7, 6)

STANDIN_SLOT(BuilderConfig_setFlag, 11, 9)
STANDIN_SLOT(BuilderConfig_getFlag, 12, 10)
STANDIN_SLOT(BuilderConfig_clearFlag, 10, 8)
STANDIN_SLOT(BuilderConfig_setMemoryPoolLimit, 43, 32)
STANDIN_SLOT(BuilderConfig_getMemoryPoolLimit, 44, 33)
STANDIN_SLOT(BuilderConfig_createTimingCache, 40, 29)
STANDIN_SLOT(BuilderConfig_setTimingCache, 41, 30)
STANDIN_SLOT(BuilderConfig_getTimingCache, 42, 31)
STANDIN_SLOT(BuilderConfig_addOptimizationProfile, 25, 23)
STANDIN_SLOT(BuilderConfig_setHardwareCompatibilityLevel, 49, 38)
STANDIN_SLOT(BuilderConfig_getHardwareCompatibilityLevel, 50, 39)
STANDIN_SLOT(BuilderConfig_setProfilingVerbosity, 27, 25)
STANDIN_SLOT(BuilderConfig_getProfilingVerbosity, 28, 26)
STANDIN_SLOT(BuilderConfig_setProgressMonitor, 56, 45)
STANDIN_SLOT(BuilderConfig_getProgressMonitor, 57, 46)

STANDIN_SLOT(OptimizationProfile_setDimensions, 2, 2)
STANDIN_SLOT(OptimizationProfile_getDimensions, 3, 3)

STANDIN_SLOT(TimingCache_serialize, 2, 2)

STANDIN_SLOT(HostMemory_data, 2, 2)
STANDIN_SLOT(HostMemory_size, 3, 3)
STANDIN_SLOT(HostMemory_type, 4, 4)

STANDIN_SLOT(Runtime_deserializeCudaEngine, 3, 3)
STANDIN_SLOT(Runtime_setEngineHostCodeAllowed, 21, 20)
STANDIN_SLOT(Runtime_getEngineHostCodeAllowed, 22, 21)

STANDIN_SLOT(CudaEngine_getNbLayers, 3, 3)
STANDIN_SLOT(CudaEngine_createExecutionContext, 5, 5)
STANDIN_SLOT(CudaEngine_createEngineInspector, 18, 14)
STANDIN_SLOT(CudaEngine_getTensorShape, 19, 15)
STANDIN_SLOT(CudaEngine_getTensorDataType, 20, 16)
STANDIN_SLOT(CudaEngine_getTensorIOMode, 23, 19)
STANDIN_SLOT(CudaEngine_getProfileShape, 29, 25)
STANDIN_SLOT(CudaEngine_getNbIOTensors, 30, 26)
STANDIN_SLOT(CudaEngine_getIOTensorName, 31, 27)

STANDIN_SLOT(ExecutionContext_setProfiler, 5, 5)
STANDIN_SLOT(ExecutionContext_getProfiler, 6, 6)
STANDIN_SLOT(ExecutionContext_setInputShape, 21, 20)
STANDIN_SLOT(ExecutionContext_getTensorShape, 22, 21)
STANDIN_SLOT(ExecutionContext_setTensorAddress, 24, 23)
STANDIN_SLOT(ExecutionContext_enqueueV3, 37, 36)

STANDIN_SLOT(EngineInspector_setExecutionContext, 3, 3)
STANDIN_SLOT(EngineInspector_getExecutionContext, 4, 4)
STANDIN_SLOT(EngineInspector_getEngineInformation, 6, 6)

STANDIN_SLOT(ILogger_log, 0, 4)

STANDIN_SLOT(IProfiler_reportLayerTime, 0, 4)

STANDIN_SLOT(IProgressMonitor_phaseStart, 4, 4)
STANDIN_SLOT(IProgressMonitor_stepComplete, 5, 5)
STANDIN_SLOT(IProgressMonitor_phaseFinish, 6, 6)

STANDIN_SLOT(IParser_parseFromFile, 1, 1)
STANDIN_SLOT(IParser_getNbErrors, 5, 3)
STANDIN_SLOT(IParser_getError, 6, 4)
STANDIN_SLOT(IParser_delete, 9, 7)

STANDIN_SLOT(IParserError_desc, 1, 1)
STANDIN_SLOT(IParserError_node, 5, 5)
STANDIN_SLOT(IParserError_nodeName, 6, 6)
STANDIN_SLOT(IParserError_nodeOperator, 7, 7)
